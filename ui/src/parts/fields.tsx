// What filters are made of.

import { useQuery } from "@tanstack/react-query";
import { useEffect, useId, useRef, useState } from "react";
import {
  Button,
  Input,
  Label,
  ListBox,
  ListBoxItem,
  Popover,
  SearchField,
  Select,
  SelectValue,
  TextField,
} from "react-aria-components";
import { choices } from "../api/insight";
import { t } from "../texts";
import { useSettled } from "./basics";
import { Icon } from "./Icon";

/** Milliseconds for which nothing is typed before it is asked for: what was asked before is cancelled by then. */
const TYPING = 25;

export function Typed(props: {
  value: string;
  label: string;
  onChange: (value: string) => void;
  inputRef: React.RefObject<HTMLInputElement | null>;
}) {
  const { value } = props;
  const [text, setText] = useState(value);
  const told = useRef(value);
  const onChange = useRef(props.onChange);
  onChange.current = props.onChange;
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const type = (now: string) => {
    setText(now);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      if (now === told.current) return;
      told.current = now;
      onChange.current(now);
    }, TYPING);
  };
  // What the address says otherwise wins, also over what was typed a moment ago.
  useEffect(() => {
    if (value === told.current) return;
    told.current = value;
    clearTimeout(timer.current);
    setText(value);
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  return (
    <SearchField className="search-field" aria-label={props.label} value={text} onChange={type}>
      <Icon name="search" />
      <Input ref={props.inputRef} placeholder={props.label} />
      <Button className="icon-button clear">
        <Icon name="close" />
      </Button>
    </SearchField>
  );
}

export function Choice(props: {
  label: string;
  any: string;
  value: string | null;
  options: readonly (readonly [string, string])[];
  onChange: (value: string | null) => void;
}) {
  return (
    <Select
      className={props.value === null ? "select" : "select chosen"}
      aria-label={props.label}
      selectedKey={props.value ?? "any"}
      onSelectionChange={(key) => props.onChange(key === "any" ? null : String(key))}
    >
      <Button className="button">
        <SelectValue />
        <Icon name="down" />
      </Button>
      <Popover className="popover">
        <ListBox className="menu">
          <ListBoxItem id="any" className="menu-item">
            {props.any}
          </ListBoxItem>
          {props.options.map(([value, title]) => (
            <ListBoxItem key={value} id={value} className="menu-item">
              {title}
            </ListBoxItem>
          ))}
        </ListBox>
      </Popover>
    </Select>
  );
}

/** A name that is typed: all that there are would be too many to list; those that begin so are offered, if there is an index. */
export function Named(props: {
  label: string;
  value: string;
  choices?: string[];
  /** Which of the index's fields it is. */
  field?: string;
  inputMode?: "decimal";
  onChange: (value: string | null) => void;
}) {
  const [text, setText] = useState(props.value);
  const [isUsed, setUsed] = useState(false);
  const settled = useSettled(text, 150);
  const known = useQuery({ ...choices(props.field ?? "", settled), enabled: isUsed && props.field !== undefined }).data;
  useEffect(() => setText(props.value), [props.value]);
  const list = useId();
  const commit = () => {
    if (text.trim() !== props.value) props.onChange(text.trim() === "" ? null : text.trim());
  };
  return (
    <TextField
      className={props.value === "" ? "named" : "named chosen"}
      value={text}
      onChange={setText}
      onFocus={() => setUsed(true)}
      onBlur={commit}
      aria-label={props.label}
    >
      <Label className={props.value === "" ? "hidden" : "named-label"}>{props.label}</Label>
      <Input
        placeholder={props.label}
        list={list}
        inputMode={props.inputMode}
        onKeyDown={(event) => event.key === "Enter" && commit()}
      />
      <datalist id={list}>
        {(known ?? props.choices ?? []).map((one) => (
          <option key={one} value={one} />
        ))}
      </datalist>
    </TextField>
  );
}

/** A number that is typed; what is none is not asked for. */
export function Numbered({
  label,
  value,
  onChange,
}: {
  label: string;
  value: string;
  onChange: (value: string | null) => void;
}) {
  const number = (text: string | null) =>
    text !== null && Number.isFinite(Number(text)) && Number(text) >= 0 ? text : null;
  return <Named label={label} value={value} inputMode="decimal" onChange={(text) => onChange(number(text))} />;
}

/** Filters; on a narrow page behind a button, which says how many are set. */
export function Foldable({ active, children }: { active: number; children: React.ReactNode }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <div className={isOpen ? "asked foldable open" : "asked foldable"}>
      <Button className="button filters-toggle" onPress={() => setOpen(!isOpen)} aria-expanded={isOpen}>
        <Icon name="filter" />
        {t.sessions.filters}
        {active > 0 ? <span className="count">{active}</span> : null}
      </Button>
      {children}
    </div>
  );
}
