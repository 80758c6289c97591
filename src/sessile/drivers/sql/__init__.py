"""What the drivers of SQL databases share: SQL in files, schema versions, filters, pools, and the log over them.

Each database has a folder here: `queries.sql` holds its named statements, `NNN_pre.sql` and `NNN_post.sql` lead to
schema version NNN.
"""
