// A form that is built from a JSON Schema: fields for what is simple, JSON for what is not.

import { type FormEvent, useState } from "react";
import {
  Button,
  Checkbox,
  FieldError,
  Input,
  Label,
  ListBox,
  ListBoxItem,
  Popover,
  Select,
  SelectValue,
  Text,
  TextArea,
  TextField,
} from "react-aria-components";
import type { Json } from "../api/types";
import { plain } from "../shown";
import { t } from "../texts";
import { Icon } from "./Icon";
import { type Field, fieldsOf, initial, NOT_GIVEN, readFrom, type Schema } from "./schema";

export function SchemaForm(props: {
  schema: Schema;
  /** What stands in it at first. */
  value?: Json;
  label: string;
  isDisabled: boolean;
  onDone: (value: Json) => void;
  children?: React.ReactNode;
}) {
  const fields = fieldsOf(props.schema);
  const [texts, setTexts] = useState<Record<string, string>>(() =>
    Object.fromEntries(fields.map((field) => [field.name, initial(field, props.value)])),
  );
  const [wrong, setWrong] = useState<Record<string, string>>({});
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const found: Record<string, string> = {};
    const values: [string, Json][] = [];
    for (const field of fields) {
      const read = readFrom(field, texts[field.name] ?? "");
      if (read.problem !== null) found[field.name] = t.form[read.problem];
      else if (read.value !== NOT_GIVEN) values.push([field.name, read.value as Json]);
    }
    setWrong(found);
    if (Object.keys(found).length > 0) return;
    const whole = fields[0]?.isWhole === true ? (values[0]?.[1] ?? null) : (Object.fromEntries(values) as Json);
    props.onDone(whole);
  };
  return (
    <form className="schema-form" onSubmit={submit} noValidate>
      {fields.map((field) => (
        <One
          key={field.name}
          field={field}
          text={texts[field.name] ?? ""}
          wrong={wrong[field.name]}
          isDisabled={props.isDisabled}
          onChange={(text) => setTexts((all) => ({ ...all, [field.name]: text }))}
        />
      ))}
      <div className="decisions">
        <Button className="button primary" type="submit" isDisabled={props.isDisabled}>
          <Icon name="check" /> {props.label}
        </Button>
        {props.children}
      </div>
    </form>
  );
}

type OneProps = {
  field: Field;
  text: string;
  wrong: string | undefined;
  isDisabled: boolean;
  onChange: (text: string) => void;
};

function One({ field, text, wrong, isDisabled, onChange }: OneProps) {
  const label = `${plain(field.title)}${field.isRequired ? "" : ` ${t.form.optional}`}`;
  const hint = field.description === "" ? null : <Text slot="description">{plain(field.description)}</Text>;
  if (field.kind === "boolean") {
    return (
      <Checkbox
        className="check"
        isSelected={text === "true"}
        isDisabled={isDisabled}
        onChange={(yes) => onChange(String(yes))}
      >
        <span className="box" aria-hidden="true">
          {text === "true" ? "✓" : ""}
        </span>
        {label}
      </Checkbox>
    );
  }
  if (field.kind === "choice") {
    return (
      <Select
        className="field"
        selectedKey={text === "" ? null : text}
        isDisabled={isDisabled}
        isInvalid={wrong !== undefined}
        onSelectionChange={(key) => onChange(String(key))}
      >
        <Label>{label}</Label>
        <Button className="button">
          <SelectValue>{({ selectedText }) => selectedText || t.form.choose}</SelectValue>
          <Icon name="down" />
        </Button>
        {hint}
        <FieldError className="wrong">{wrong}</FieldError>
        <Popover className="popover">
          <ListBox className="menu">
            {field.choices.map((one) => (
              <ListBoxItem key={JSON.stringify(one)} id={JSON.stringify(one)} className="menu-item">
                {plain(typeof one === "string" ? one : JSON.stringify(one))}
              </ListBoxItem>
            ))}
          </ListBox>
        </Popover>
      </Select>
    );
  }
  const isLong = field.kind === "json" || field.kind === "long";
  return (
    <TextField
      className="field"
      value={text}
      onChange={onChange}
      isDisabled={isDisabled}
      isInvalid={wrong !== undefined}
      isRequired={field.isRequired}
      type={field.kind === "date" ? "date" : field.kind === "email" ? "email" : "text"}
      inputMode={field.kind === "number" || field.kind === "integer" ? "decimal" : undefined}
    >
      <Label>{label}</Label>
      {isLong ? <TextArea className={field.kind === "json" ? "mono-area" : undefined} rows={4} /> : <Input />}
      {hint}
      <FieldError className="wrong">{wrong}</FieldError>
    </TextField>
  );
}
