"""Workers: the child processes (renderer, importer) and the protocol between them and the daemon."""
