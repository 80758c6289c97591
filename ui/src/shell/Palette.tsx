import { useState } from "react";
import {
  Autocomplete,
  Dialog,
  Input,
  Menu,
  MenuItem,
  Modal,
  ModalOverlay,
  SearchField,
  useFilter,
} from "react-aria-components";
import { go, to } from "../address";
import { Window } from "../parts/basics";
import { Icon } from "../parts/Icon";
import { t } from "../texts";
import { VIEWS } from "../views";
import { type Command, close, openHelp, openPalette, useAllCommands, useCommands, useOpened } from "./commands";

export function Palette() {
  useCommands([
    { id: "palette", title: t.keys.palette, icon: "search", keys: "/, Ctrl K", run: openPalette, isKeyOnly: true },
    { id: "help", title: t.keys.title, icon: "keyboard", keys: "?", run: openHelp },
    ...VIEWS.filter((view) => view.isListed).map(
      (view): Command => ({
        id: `go-${view.name}`,
        title: t.keys.go(view.title),
        icon: view.icon,
        keys: view.key === undefined ? undefined : `g ${view.key}`,
        run: () => go(to([view.name])),
      }),
    ),
  ]);
  const opened = useOpened();
  return (
    <>
      <ModalOverlay
        className="overlay top"
        isDismissable
        isOpen={opened === "palette"}
        onOpenChange={(open) => !open && close()}
      >
        <Modal className="window palette">
          <Dialog aria-label={t.palette.title}>
            <Choice />
          </Dialog>
        </Modal>
      </ModalOverlay>
      <Window title={t.keys.title} isOpen={opened === "help"} onClose={close}>
        <Keys />
      </Window>
    </>
  );
}

function Choice() {
  const [text, setText] = useState("");
  const commands = useAllCommands().filter((one) => !one.isKeyOnly);
  const { contains } = useFilter({ sensitivity: "base" });
  const fits = commands.filter((one) => contains(one.title, text));
  const search: Command = {
    id: "search",
    title: t.palette.search(text),
    icon: "search",
    run: () => go(to(["sessions"], { q: text })),
  };
  const direct: Command = {
    id: "open",
    title: t.palette.toSession(text),
    icon: "right",
    run: () => go(to(["session", text.trim()])),
  };
  const shown = text.trim() === "" ? fits : [...fits, search, ...(/\s/.test(text.trim()) ? [] : [direct])];
  return (
    <Autocomplete inputValue={text} onInputChange={setText}>
      <SearchField className="palette-field" aria-label={t.palette.placeholder} autoFocus>
        <Icon name="search" />
        <Input placeholder={t.palette.placeholder} />
        <kbd>Esc</kbd>
      </SearchField>
      <Menu
        className="menu palette-menu"
        aria-label={t.palette.title}
        onAction={(key) => {
          close();
          shown.find((one) => one.id === key)?.run();
        }}
      >
        {shown.map((one) => (
          <MenuItem key={one.id} id={one.id} textValue={one.title} className="menu-item">
            <Icon name={one.icon} />
            <span>{one.title}</span>
            {one.keys === undefined ? null : <Combination keys={one.keys} />}
          </MenuItem>
        ))}
      </Menu>
    </Autocomplete>
  );
}

function Combination({ keys }: { keys: string }) {
  return (
    <span className="keys">
      {keys
        .split(", ")[0]
        ?.split(" ")
        .map((key) => (
          <kbd key={key}>{key}</kbd>
        ))}
    </span>
  );
}

function Keys() {
  const commands = useAllCommands().filter((one) => one.keys !== undefined);
  return (
    <dl className="key-list">
      {commands.map((one) => (
        <div key={one.id}>
          <dt>{one.title}</dt>
          <dd>
            <Combination keys={one.keys ?? ""} />
          </dd>
        </div>
      ))}
    </dl>
  );
}
