"""The portable result: a Character Card V3 zip that is also the adapter. Untrusted until verified. No torch here."""

from charforge.bundle.manifest import Manifest
from charforge.bundle.read import Bundle, BundleError, read_bundle
from charforge.bundle.write import write_bundle

__all__ = ["Bundle", "BundleError", "Manifest", "read_bundle", "write_bundle"]
