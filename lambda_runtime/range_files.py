"""Files of this machine that ranges write: Ctrl-C is heard meanwhile.

ROOT's TFile ignores SIGINT while it writes a block, and then puts back what it found
(``TFile::WriteBuffer``, ``TUnixSystem::UnixIgnoreSignal``). Of two threads that write at a time one finds
that the signal is ignored, and puts that back: the process is deaf to Ctrl-C from then on. Functions, which
nobody interrupts, save the 0.2 s of CPU that the first such file takes.
"""

from __future__ import annotations

import ROOT

from lambda_runtime.declaring import declared
from lambda_runtime.once import once

_HEX = "[0-9a-f]" * 32
PATTERNS = (rf"_[0-9]+\.root-{_HEX}$", rf"/snapshot-{_HEX}\.root$")
"""What `lambda_runtime.snapshots` calls such files, for TRegexp: hidden ones, and those that S3 gets."""

_CODE = r"""
#include <TFile.h>
#include <TROOT.h>
#include <TSystem.h>

#include <cerrno>
#include <fcntl.h>

namespace dask_root_lambda {

class RangeFile : public TFile {
public:
   // "NET" has TFile leave all to this constructor: what that writes would not be written by this class.
   RangeFile(const char *name, Option_t *option = "", const char *title = "", Int_t compression = 1)
      : TFile(name, "NET", title, compression)
   {
      TString wanted(option);
      wanted.ToUpper();
      fWritable = wanted.BeginsWith("RECREATE");
      fOption = fWritable ? "CREATE" : "READ";
      fRealName = GetName();
      fD = SysOpen(fRealName, fWritable ? O_RDWR | O_CREAT | O_TRUNC : O_RDONLY, 0644);
      if (fD < 0) {
         SysError("TFile", "file %s can not be opened for %s", GetName(), fWritable ? "writing" : "reading");
         MakeZombie();
         gDirectory = gROOT;
         return;
      }
      // ROOT looks at files that are open when the process ends, after code as this is gone.
      fGlobalRegistration = false;
      Init(fWritable);
   }
   ~RangeFile() override { Close(); }

   Bool_t WriteBuffer(const char *from, Int_t size) override
   {
      if (!IsOpen() || !fWritable)
         return kTRUE;
      if (const auto status = WriteBufferViaCache(from, size))
         return status == 2;
      for (Int_t done = 0; done < size;) {
         const auto written = SysWrite(fD, from + done, size - done);
         if (written < 0 && TSystem::GetErrno() == EINTR)
            continue;
         if (written <= 0) {
            SetBit(kWriteError);
            SetWritable(kFALSE);
            SysError("WriteBuffer", "error writing to file %s", GetName());
            return kTRUE;
         }
         done += written;
      }
      fBytesWrite += size;
      fgBytesWrite += size;
      return kFALSE;
   }
};

} // namespace dask_root_lambda
"""


@once
def prepare() -> None:
    """Have ROOT open files with such names as a ``RangeFile``, which leaves signals alone."""
    declared(_CODE)
    for pattern in PATTERNS:
        ROOT.gPluginMgr.AddHandler(
            "TFile", pattern, "dask_root_lambda::RangeFile", "RIO",
            "RangeFile(const char*,Option_t*,const char*,Int_t)",
        )  # fmt: skip
