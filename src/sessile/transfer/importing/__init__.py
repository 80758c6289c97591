"""Taking over what other libraries have stored."""
