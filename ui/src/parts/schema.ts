// A JSON Schema as the fields of a form, and what is typed as values. The server has the last word on each.

import type { Json } from "../api/types";

export type Schema = { [word: string]: Json };

export type Kind = "text" | "long" | "number" | "integer" | "boolean" | "choice" | "date" | "email" | "json";

export type Field = {
  name: string;
  title: string;
  description: string;
  kind: Kind;
  choices: Json[];
  isRequired: boolean;
  /** Whether an empty field means null, where it must be given. */
  isNullable: boolean;
  /** Whether it is all that is asked for: the schema is no object's. */
  isWhole: boolean;
  given: Json | undefined;
};

export const NOT_GIVEN = Symbol("not given");

export type Read = { value: Json | typeof NOT_GIVEN; problem: null } | { value: null; problem: Problem };

export type Problem = "missing" | "noNumber" | "noInteger" | "notJson";

/** From so many characters on a text has several lines. */
const LONG = 200;

const isObject = (value: Json | undefined): value is { [key: string]: Json } =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export function fieldsOf(schema: Schema): Field[] {
  const root = resolved(schema, schema);
  const properties = root.properties;
  if (root.type !== "object" || !isObject(properties) || Object.keys(properties).length === 0) {
    return [{ ...fieldOf("value", schema, schema, true), isWhole: true }];
  }
  const required = Array.isArray(root.required) ? root.required : [];
  return Object.entries(properties).map(([name, one]) =>
    fieldOf(name, isObject(one) ? one : {}, schema, required.includes(name)),
  );
}

function fieldOf(name: string, given: Schema, root: Schema, isRequired: boolean): Field {
  const outer = resolved(given, root);
  const choices = Array.isArray(outer.anyOf) ? outer.anyOf.filter(isObject).map((one) => resolved(one, root)) : [];
  const others = choices.filter((one) => one.type !== "null");
  const isNullable = others.length < choices.length;
  const schema = others.length === 1 && others[0] !== undefined ? { ...outer, ...others[0] } : outer;
  const words = { ...schema, ...given };
  return {
    name,
    title: typeof words.title === "string" ? words.title : name,
    description: typeof words.description === "string" ? words.description : "",
    kind: kindOf(schema, others.length),
    choices: Array.isArray(schema.enum) ? schema.enum : schema.const === undefined ? [] : [schema.const],
    isRequired,
    isNullable,
    isWhole: false,
    given: words.default ?? (schema.const === undefined ? undefined : schema.const),
  };
}

function kindOf(schema: Schema, choices: number): Kind {
  if (Array.isArray(schema.enum) || schema.const !== undefined) return "choice";
  if (choices > 1) return "json";
  if (schema.type === "boolean") return "boolean";
  if (schema.type === "integer" || schema.type === "number") return schema.type;
  if (schema.type !== "string") return "json";
  if (schema.format === "date") return "date";
  if (schema.format === "email") return "email";
  return typeof schema.maxLength === "number" && schema.maxLength < LONG ? "text" : "long";
}

/** What `#/$defs/NAME` means; at most so many steps, so that a circle ends. */
function resolved(schema: Schema, root: Schema, steps = 8): Schema {
  const ref = schema.$ref;
  const all = root.$defs;
  if (typeof ref !== "string" || steps === 0 || !isObject(all)) return schema;
  const found = all[ref.replace("#/$defs/", "")];
  return isObject(found) ? resolved({ ...found, ...without(schema) }, root, steps - 1) : schema;
}

function without({ $ref: _, ...rest }: Schema): Schema {
  return rest;
}

/** What stands in a field at first, as it would be typed. */
export function initial(field: Field, value: Json | undefined): string {
  const given = field.isWhole ? value : isObject(value) ? value[field.name] : undefined;
  const known = given === undefined ? field.given : given;
  if (known === undefined) return "";
  if (field.kind === "json") return JSON.stringify(known, null, 2);
  if (field.kind === "choice") return JSON.stringify(known);
  return known === null ? "" : String(known);
}

/** What is typed into a field, as a value; what may be left out, and is empty, is left out. */
export function readFrom(field: Field, text: string): Read {
  const none: Read = field.isRequired
    ? field.isNullable
      ? { value: null, problem: null }
      : { value: null, problem: "missing" }
    : { value: NOT_GIVEN, problem: null };
  if (field.kind === "boolean") return { value: text === "true", problem: null };
  if (text.trim() === "") {
    const mayBeEmpty = (field.kind === "long" || field.kind === "text") && field.given === "";
    return mayBeEmpty ? { value: text, problem: null } : none;
  }
  if (field.kind === "number" || field.kind === "integer") {
    const number = Number(text);
    if (!Number.isFinite(number)) return { value: null, problem: "noNumber" };
    if (field.kind === "integer" && !Number.isInteger(number)) return { value: null, problem: "noInteger" };
    return { value: number, problem: null };
  }
  if (field.kind === "json" || field.kind === "choice") {
    try {
      return { value: JSON.parse(text) as Json, problem: null };
    } catch {
      return { value: null, problem: "notJson" };
    }
  }
  return { value: text, problem: null };
}
