"""The spool: folders as job states, a rename per step."""
