"""Proves by training that a migrated torchtitan does what it should: `run_verify`."""

from __future__ import annotations

from .errors import VerifyError
from .judge import Verdict, Verification
from .run import run_verify

__all__ = ["Verdict", "Verification", "VerifyError", "run_verify"]
