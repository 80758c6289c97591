"""What a workflow's run keeps, how it is driven, and how it ends."""
