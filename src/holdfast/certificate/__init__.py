"""Certificates: what a search leaves behind so that a program that shares no code with it can check its answer.

The format is defined in docs/certificates/format.md; the checker is the package `holdfast_check`.
"""

from holdfast.certificate.writer import CertificateError, CertificateWriter, Kind, claim

__all__ = ["CertificateError", "CertificateWriter", "Kind", "claim"]
