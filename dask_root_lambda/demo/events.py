"""The C++ that draws the events and writes them; ROOT compiles it when a dataset is made."""

from __future__ import annotations

SOURCE = """
#include <TFile.h>
#include <TTree.h>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

namespace dask_root_lambda_demo {

// GeV; Particle Data Group, Phys. Rev. D 110, 030001 (2024).
constexpr double kMuonMass = 0.1056583755;
// What CMS records: NanoAOD's muons have 3 GeV at least, and the muon system ends at 2.4.
constexpr double kMinPt = 3., kMaxEta = 2.4;
// GeV; where the continuum begins and ends, and its power: dN/dm ~ m^-kPower.
constexpr double kLow = 0.25, kHigh = 300., kPower = 1.3;
// Of a mass. That of a muon's pt is 1% to 6% in CMS (JINST 7 (2012) P10002); a mass has it over sqrt(2).
constexpr double kResolution = 0.008;
constexpr double kPi = 3.14159265358979323846;
constexpr int kMaxTries = 1000;

struct Resonance { double mass, width, fraction; };
struct Muon { double pt, eta, phi; int charge; };

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), begun anew for each event.
class Random {
   std::uint64_t fState;
   static std::uint64_t Mix(std::uint64_t z) {
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
      return z ^ (z >> 31);
   }
public:
   Random(std::uint64_t seed, std::uint64_t event) : fState(Mix(seed + Mix(event + 0x9e3779b97f4a7c15ull))) {}
   // In (0, 1).
   double Uniform() {
      fState += 0x9e3779b97f4a7c15ull;
      return ((Mix(fState) >> 12) + 0.5) / 4503599627370496.;
   }
   double Uniform(double low, double high) { return low + (high - low) * Uniform(); }
   double Gauss() { return std::sqrt(-2. * std::log(Uniform())) * std::cos(2. * kPi * Uniform()); }
};

// dN/dpt ~ pt (1 + (pt / scale)^2)^-3: a soft rise and a hard tail.
double DrawPt(Random &random, double scale) {
   return scale * std::sqrt(1. / std::sqrt(random.Uniform()) - 1.);
}

double DrawContinuum(Random &random) {
   const double power = 1. - kPower, low = std::pow(kLow, power), high = std::pow(kHigh, power);
   return std::pow(random.Uniform(low, high), 1. / power);
}

// Breit-Wigner up to ten widths from the pole, above the continuum's begin.
double DrawResonance(Random &random, const Resonance &r) {
   const double low = std::atan(2. * (std::max(r.mass - 10. * r.width, kLow) - r.mass) / r.width);
   return r.mass + r.width / 2. * std::tan(random.Uniform(low, std::atan(20.)));
}

// Two muons of a pair with this mass, transverse momentum and rapidity: in its rest frame they are back to
// back, in any direction; then it is boosted.
void Decay(Random &random, double mass, double pt, double y, Muon *muons) {
   const double p = std::sqrt(std::max(0.25 * mass * mass - kMuonMass * kMuonMass, 0.));
   const double cosTheta = random.Uniform(-1., 1.), sinTheta = std::sqrt(1. - cosTheta * cosTheta);
   const double phi = random.Uniform(0., 2. * kPi), turn = random.Uniform(-kPi, kPi);
   const double mt = std::hypot(mass, pt);
   for (int i = 0; i < 2; ++i) {
      const double sign = i ? -1. : 1., e = 0.5 * mass;
      const double px = sign * p * sinTheta * std::cos(phi), py = sign * p * sinTheta * std::sin(phi);
      const double pz = sign * p * cosTheta;
      // Along x by the transverse momentum, along z by the rapidity, then turned.
      const double bx = (mt * px + pt * e) / mass, be = (mt * e + pt * px) / mass;
      const double bz = std::cosh(y) * pz + std::sinh(y) * be;
      muons[i].pt = std::hypot(bx, py);
      muons[i].eta = std::asinh(bz / muons[i].pt);
      muons[i].phi = std::remainder(std::atan2(py, bx) + turn, 2. * kPi);
   }
}

bool Accepted(const Muon &m) { return m.pt > kMinPt && std::abs(m.eta) < kMaxEta; }

// A pair whose muons are both measured: its mass is drawn once, momentum and decay until they are.
void DrawPair(Random &random, const Resonance *resonance, Muon *muons) {
   const double exact = resonance ? DrawResonance(random, *resonance) : DrawContinuum(random);
   const double mass = std::max(exact * (1. + kResolution * random.Gauss()), 2. * kMuonMass);
   for (int i = 0; i < kMaxTries; ++i) {
      Decay(random, mass, DrawPt(random, 6. + 0.1 * mass), random.Uniform(-kMaxEta, kMaxEta), muons);
      if (Accepted(muons[0]) && Accepted(muons[1]))
         return;
   }
}

Muon DrawSoftMuon(Random &random) {
   return {kMinPt + DrawPt(random, 3.), random.Uniform(-kMaxEta, kMaxEta), random.Uniform(-kPi, kPi),
           random.Uniform() < 0.5 ? -1 : 1};
}

// Number of muons and their charges depend on comparisons of uniform numbers only: exact on any machine.
class Generator {
   std::uint64_t fSeed;
   std::vector<Resonance> fResonances;

   const Resonance *DrawProcess(Random &random) const {
      double left = random.Uniform();
      for (const auto &resonance : fResonances)
         if ((left -= resonance.fraction) < 0.)
            return &resonance;
      return nullptr;
   }

public:
   Generator(std::uint64_t seed, const std::vector<Resonance> &resonances)
      : fSeed(seed), fResonances(resonances) {}

   void Event(std::uint64_t number, std::vector<Muon> &muons) const {
      Random random(fSeed, number);
      muons.clear();
      // 3% of the events have no muon, 14% one, 55% two, 20% three, 8% four.
      const double u = random.Uniform();
      const unsigned n = (u > 0.03) + (u > 0.17) + (u > 0.72) + (u > 0.92);
      if (n >= 2) {
         muons.resize(2);
         // A quarter of the pairs are of the same sign: two decays that have nothing to do with each other.
         const bool sameSign = random.Uniform() < 0.25;
         muons[0].charge = random.Uniform() < 0.5 ? -1 : 1;
         muons[1].charge = sameSign ? muons[0].charge : -muons[0].charge;
         const Resonance *resonance = sameSign ? nullptr : DrawProcess(random);
         DrawPair(random, resonance, muons.data());
      }
      while (muons.size() < n)
         muons.push_back(DrawSoftMuon(random));
      std::sort(muons.begin(), muons.end(), [](const Muon &a, const Muon &b) { return a.pt > b.pt; });
   }
};

// A tree with the columns of NanoAOD's muons.
class Writer {
   static constexpr int kMaxMuons = 4;
   Generator fGenerator;
   TFile fFile;
   TTree *fTree;  // of the file
   std::vector<Muon> fMuons;
   UInt_t fN = 0;
   Float_t fPt[kMaxMuons], fEta[kMaxMuons], fPhi[kMaxMuons], fMass[kMaxMuons];
   Int_t fCharge[kMaxMuons];

public:
   Writer(const char *path, const char *tree, std::uint64_t seed, const std::vector<Resonance> &resonances,
          Long64_t cluster)
      : fGenerator(seed, resonances), fFile(path, "RECREATE", "", 505)
   {
      fFile.cd();
      fTree = new TTree(tree, "Generated events");
      fTree->SetAutoFlush(cluster);
      fTree->SetAutoSave(0);
      fTree->Branch("nMuon", &fN, "nMuon/i");
      fTree->Branch("Muon_pt", fPt, "Muon_pt[nMuon]/F");
      fTree->Branch("Muon_eta", fEta, "Muon_eta[nMuon]/F");
      fTree->Branch("Muon_phi", fPhi, "Muon_phi[nMuon]/F");
      fTree->Branch("Muon_mass", fMass, "Muon_mass[nMuon]/F");
      fTree->Branch("Muon_charge", fCharge, "Muon_charge[nMuon]/I");
   }

   bool Fill(std::uint64_t begin, std::uint64_t end) {
      bool good = !fFile.IsZombie();
      for (auto event = begin; good && event < end; ++event) {
         fGenerator.Event(event, fMuons);
         fN = fMuons.size();
         for (unsigned i = 0; i < fN; ++i) {
            fPt[i] = fMuons[i].pt;
            fEta[i] = fMuons[i].eta;
            fPhi[i] = fMuons[i].phi;
            fMass[i] = kMuonMass;
            fCharge[i] = fMuons[i].charge;
         }
         good = fTree->Fill() >= 0;
      }
      return good && !fFile.TestBit(TFile::kWriteError);
   }

   bool Close() {
      const bool good = fFile.Write() > 0 && !fFile.TestBit(TFile::kWriteError);
      fFile.Close();
      return good;
   }
};

} // namespace dask_root_lambda_demo
"""
