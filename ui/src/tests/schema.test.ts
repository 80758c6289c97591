import { describe, expect, test } from "vitest";
import { type Field, fieldsOf, initial, NOT_GIVEN, readFrom, type Schema } from "../parts/schema";

const schema: Schema = {
  type: "object",
  required: ["name", "seats", "note"],
  properties: {
    name: { type: "string", title: "Name", maxLength: 40 },
    seats: { type: "integer", minimum: 1 },
    born: { anyOf: [{ type: "string", format: "date" }, { type: "null" }], default: null, title: "Born" },
    meal: { enum: ["any", "vegan"], default: "any" },
    address: { $ref: "#/$defs/Address" },
    agreed: { type: "boolean" },
    note: { anyOf: [{ type: "string" }, { type: "null" }] },
  },
  $defs: { Address: { type: "object", title: "Address", properties: { street: { type: "string" } } } },
};

const field = (name: string) => fieldsOf(schema).find((one) => one.name === name) as Field;

describe("forms of a schema", () => {
  test("have a field for each property, of its kind", () => {
    expect(fieldsOf(schema).map((one) => [one.name, one.title, one.kind, one.isRequired])).toEqual([
      ["name", "Name", "text", true],
      ["seats", "seats", "integer", true],
      ["born", "Born", "date", false],
      ["meal", "meal", "choice", false],
      ["address", "Address", "json", false],
      ["agreed", "agreed", "boolean", false],
      ["note", "note", "long", true],
    ]);
  });

  test("are one field where no object is asked for", () => {
    const [one] = fieldsOf({ type: "string" });
    expect([one?.isWhole, one?.kind, one?.isRequired]).toEqual([true, "long", true]);
    expect(initial(one as Field, "As it was")).toBe("As it was");
    expect(fieldsOf({ $ref: "#/$defs/Loop", $defs: { Loop: { $ref: "#/$defs/Loop" } } })).toHaveLength(1);
  });

  test("begin with what is given, or with the defaults", () => {
    expect(initial(field("meal"), undefined)).toBe('"any"');
    expect(initial(field("seats"), { seats: 3 })).toBe("3");
    expect(initial(field("address"), { address: { street: "High" } })).toContain('"street": "High"');
    expect(initial(field("born"), undefined)).toBe("");
  });

  test("read what is typed", () => {
    expect(readFrom(field("name"), "Ada")).toEqual({ value: "Ada", problem: null });
    expect(readFrom(field("name"), " ")).toEqual({ value: null, problem: "missing" });
    expect(readFrom(field("seats"), "2")).toEqual({ value: 2, problem: null });
    expect(readFrom(field("seats"), "two").problem).toBe("noNumber");
    expect(readFrom(field("seats"), "2.5").problem).toBe("noInteger");
    expect(readFrom(field("born"), "").value).toBe(NOT_GIVEN);
    expect(readFrom(field("note"), "")).toEqual({ value: null, problem: null });
    expect(readFrom(field("meal"), '"vegan"').value).toBe("vegan");
    expect(readFrom(field("address"), "{").problem).toBe("notJson");
    expect(readFrom(field("agreed"), "").value).toBe(false);
  });
});
