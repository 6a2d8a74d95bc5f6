"""Proves by training that a migrated torchtitan does what it should: `run_verify`."""

from __future__ import annotations

from migrator.verify.errors import VerifyError
from migrator.verify.judge.verdict import Verdict, Verification
from migrator.verify.run import run_verify

__all__ = ["Verdict", "Verification", "VerifyError", "run_verify"]
