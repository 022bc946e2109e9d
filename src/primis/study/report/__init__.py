"""What people read of an evaluation: the page of an audit, and the report on all tables and figures."""
