// Filters that somebody has given a name, kept in this browser.

import { useState, useSyncExternalStore } from "react";
import { Button, Dialog, DialogTrigger, Input, Label, Popover, TextField } from "react-aria-components";
import { IconButton } from "../../parts/basics";
import { Icon } from "../../parts/Icon";
import { t } from "../../texts";
import { NAMES } from "./Filters";

type Saved = { name: string; query: string };

const KEY = "sessile.views";
const listeners = new Set<() => void>();
let known: { text: string | null; views: Saved[] } = { text: null, views: [] };

function read(): Saved[] {
  const text = localStorage.getItem(KEY);
  if (text === known.text) return known.views;
  let views: Saved[] = [];
  try {
    const found: unknown = JSON.parse(text ?? "[]");
    if (Array.isArray(found))
      views = found.filter((one) => typeof one?.name === "string" && typeof one?.query === "string");
  } catch {
    // something else has written there
  }
  known = { text, views };
  return views;
}

function write(views: Saved[]) {
  localStorage.setItem(KEY, JSON.stringify(views));
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

type Props = { query: URLSearchParams; onChoose: (values: Record<string, string | null>) => void };

export function SavedViews({ query, onChoose }: Props) {
  const views = useSyncExternalStore(subscribe, read);
  const [name, setName] = useState("");
  const save = (close: () => void) => {
    if (name.trim() === "") return;
    const kept = NAMES.map((one) => [one, query.get(one)]).filter(([, value]) => value !== null) as string[][];
    write([
      ...views.filter((one) => one.name !== name.trim()),
      { name: name.trim(), query: new URLSearchParams(kept).toString() },
    ]);
    setName("");
    close();
  };
  return (
    <DialogTrigger>
      <Button className="button quiet saved-button">
        <Icon name="bookmark" />
        {t.sessions.saved}
      </Button>
      <Popover className="popover">
        <Dialog className="saved" aria-label={t.sessions.saved}>
          {({ close }) => (
            <>
              {views.map((one) => (
                <div key={one.name} className="saved-row">
                  <Button
                    className="link"
                    onPress={() => {
                      const values = new URLSearchParams(one.query);
                      onChoose(Object.fromEntries(NAMES.map((key) => [key, values.get(key)])));
                      close();
                    }}
                  >
                    {one.name}
                  </Button>
                  <IconButton
                    icon="close"
                    label={t.sessions.removeView(one.name)}
                    onPress={() => write(views.filter((other) => other !== one))}
                  />
                </div>
              ))}
              <form
                onSubmit={(event) => {
                  event.preventDefault();
                  save(close);
                }}
              >
                <TextField className="field" value={name} onChange={setName}>
                  <Label>{t.sessions.viewName}</Label>
                  <Input />
                </TextField>
                <Button className="button" type="submit" isDisabled={name.trim() === ""}>
                  {t.sessions.saveView}
                </Button>
              </form>
            </>
          )}
        </Dialog>
      </Popover>
    </DialogTrigger>
  );
}
