"""The seam to bytes and secrets: what every service may ask of the artifact store, in process or by gRPC."""
