"""The dimuon resonances: what is generated, and what is labelled in the plot."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resonance:
    """A particle that decays to two muons.

    Masses and widths: S. Navas et al. (Particle Data Group), Phys. Rev. D 110, 030001 (2024),
    https://pdg.lbl.gov.
    """

    label: str
    """Label in the plot, as TLatex; particles of the same label share it."""
    mass_gev: float
    width_gev: float
    fraction: float
    """Share of the generated opposite-sign pairs; about what CMS's 2012 double-muon triggers kept."""


RESONANCES = (
    Resonance("#eta", 0.547862, 1.31e-6, 0.006),
    Resonance("#rho/#omega", 0.77526, 0.1474, 0.008),
    Resonance("#rho/#omega", 0.78266, 8.68e-3, 0.006),
    Resonance("#phi", 1.019461, 4.249e-3, 0.007),
    Resonance("J/#psi", 3.096900, 9.26e-5, 0.070),
    Resonance("#psi'", 3.686097, 2.93e-4, 0.004),
    Resonance("#Upsilon(1,2,3S)", 9.46040, 5.40e-5, 0.010),
    Resonance("#Upsilon(1,2,3S)", 10.0234, 3.20e-5, 0.004),
    Resonance("#Upsilon(1,2,3S)", 10.3551, 2.03e-5, 0.003),
    Resonance("Z", 91.1880, 2.4955, 0.100),
)
