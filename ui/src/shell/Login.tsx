import { useState } from "react";
import { Button, Input, Label, TextField } from "react-aria-components";
import { access } from "../api/client";
import { Logo } from "../parts/Icon";
import { t } from "../texts";

export function Login({ onEntered, wasRefused }: { onEntered: () => void; wasRefused: boolean }) {
  const [token, setToken] = useState("");
  return (
    <main className="alone">
      <form
        className="login"
        onSubmit={(event) => {
          event.preventDefault();
          if (token.trim() === "") return;
          access.give(token.trim());
          onEntered();
        }}
      >
        <Logo />
        <h1>{t.access.title}</h1>
        <p>{t.access.hint}</p>
        <TextField className="field" value={token} onChange={setToken} type="password" autoFocus>
          <Label>{t.access.label}</Label>
          <Input autoComplete="off" />
        </TextField>
        {wasRefused ? (
          <p className="wrong" role="alert">
            {t.access.refused}
          </p>
        ) : null}
        <Button className="button primary" type="submit">
          {t.access.enter}
        </Button>
      </form>
    </main>
  );
}
