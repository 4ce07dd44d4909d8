"""Secrets: envelope-encrypted rows, the keyring above them, and the audit of every opening."""
