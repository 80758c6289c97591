import { useQuery } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";
import { Button, Menu, MenuItem, MenuTrigger, Popover, Separator } from "react-aria-components";
import { go, to } from "../address";
import { access } from "../api/client";
import { about, waiting } from "../api/queries";
import { useLater } from "../parts/basics";
import { Icon, Logo } from "../parts/Icon";
import { t } from "../texts";
import { choose, chosen, subscribe, type Theme } from "../theme";
import { VIEWS } from "../views";
import { openHelp, openPalette } from "./commands";

const LISTED = VIEWS.filter((view) => view.isListed);

/** The views that a narrow page has room for; the others are under "more" there. */
const AT_HAND = new Set(["sessions", "waiting", "new", "monitor"]);

/** At the side, or at the foot where the page is narrow. */
export function Navigation({ current, onSkip }: { current: string; onSkip: () => void }) {
  const shown = current === "session" || current === "compare" ? "sessions" : current;
  const waits = useQuery({ ...waiting(), enabled: useLater() }).data?.items.length ?? 0;
  return (
    <nav className="navigation" aria-label={t.nav.label}>
      <a
        className="skip"
        href={location.hash || "#/"}
        onClick={(event) => {
          event.preventDefault();
          onSkip();
        }}
      >
        {t.skip}
      </a>
      <a className="brand" href={to([])}>
        <Logo />
        <span>{t.product}</span>
      </a>
      <Button className="find" onPress={openPalette} aria-label={`${t.sessions.searchShort} /`}>
        <Icon name="search" />
        <span>{t.sessions.searchShort}</span>
        <kbd>/</kbd>
      </Button>
      <ul>
        {LISTED.map((view) => (
          <li key={view.name} className={AT_HAND.has(view.name) ? undefined : "spare"}>
            <a href={to([view.name])} aria-current={view.name === shown ? "page" : undefined}>
              <Icon name={view.icon} />
              <span>{view.title}</span>
              {view.name === "waiting" && waits > 0 ? <span className="count">{waits}</span> : null}
            </a>
          </li>
        ))}
      </ul>
      <More shown={shown} />
      <Foot />
    </nav>
  );
}

/** What the foot of a narrow page has no room for. */
function More({ shown }: { shown: string }) {
  const theme = useSyncExternalStore(subscribe, chosen);
  const others = LISTED.filter((view) => !AT_HAND.has(view.name));
  const isHere = others.some((view) => view.name === shown);
  const run = (key: string) => {
    if (key === "search") openPalette();
    else if (key === "leave") access.forget();
    else if (key.startsWith("theme ")) choose(key.slice(6) as Theme);
    else go(to([key]), { replace: false });
  };
  return (
    <MenuTrigger>
      <Button className={isHere ? "more here" : "more"}>
        <Icon name="menu" />
        <span>{t.nav.more}</span>
      </Button>
      <Popover className="popover" placement="top end">
        <Menu className="menu" aria-label={t.nav.more} onAction={(key) => run(String(key))}>
          {others.map((view) => (
            <MenuItem
              key={view.name}
              id={view.name}
              className="menu-item"
              textValue={view.title}
              aria-current={view.name === shown ? "page" : undefined}
            >
              <Icon name={view.icon} />
              {view.title}
              {view.name === shown ? <Icon name="check" /> : null}
            </MenuItem>
          ))}
          <Separator className="menu-line" />
          <MenuItem id="search" className="menu-item" textValue={t.sessions.searchShort}>
            <Icon name="search" />
            {t.sessions.searchShort}
          </MenuItem>
          {THEMES.map((one) => (
            <MenuItem
              key={one}
              id={`theme ${one}`}
              className="menu-item"
              textValue={`${t.theme.title}: ${t.theme[one]}`}
              aria-label={`${t.theme.title}: ${t.theme[one]}`}
            >
              <Icon name="theme" />
              {t.theme[one]}
              {one === theme ? <Icon name="check" /> : null}
            </MenuItem>
          ))}
          {access.has() ? (
            <MenuItem id="leave" className="menu-item" textValue={t.access.leave}>
              <Icon name="user" />
              {t.access.leave}
            </MenuItem>
          ) : null}
        </Menu>
      </Popover>
    </MenuTrigger>
  );
}

const THEMES: Theme[] = ["system", "light", "dark", "contrast"];

function Foot() {
  const who = useQuery(about()).data;
  const theme = useSyncExternalStore(subscribe, chosen);
  return (
    <div className="foot">
      <MenuTrigger>
        <Button className="foot-button" aria-label={`${t.theme.title}: ${t.theme[theme]}`}>
          <Icon name="theme" />
          <span>{t.theme[theme]}</span>
        </Button>
        <Popover className="popover" placement="top start">
          <Menu
            className="menu"
            aria-label={t.theme.title}
            selectionMode="single"
            selectedKeys={[theme]}
            onAction={(key) => choose(key as Theme)}
          >
            {THEMES.map((one) => (
              <MenuItem key={one} id={one} className="menu-item">
                {t.theme[one]}
                {one === theme ? <Icon name="check" /> : null}
              </MenuItem>
            ))}
          </Menu>
        </Popover>
      </MenuTrigger>
      <Button className="foot-button" onPress={openHelp} aria-label={t.keys.title}>
        <Icon name="keyboard" />
        <span>{t.keys.title}</span>
      </Button>
      {who?.user_id != null || access.has() ? (
        <Button className="foot-button" onPress={access.forget} aria-label={t.access.leave}>
          <Icon name="user" />
          <span>{who?.user_id ?? t.access.leave}</span>
        </Button>
      ) : null}
    </div>
  );
}
