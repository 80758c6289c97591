"""How messages become data (`stored`), words (`spoken`) and figures (`counted`)."""
