"""The chaos ledger: what was accepted, what arrived and what was handled, while everything around it fails."""
