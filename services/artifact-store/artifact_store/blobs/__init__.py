"""Bytes: blobs under their digest, in a folder or an object store."""
