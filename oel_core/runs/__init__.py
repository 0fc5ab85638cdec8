"""A run on disk: folder, stage manifests, records, locks and leases."""
