"""Jobs: what is asked. Schema, parser, plan; prompt commands and PNG records as jobs. Never imports torch."""
