import { invalid, notInSandbox, type StripeError } from './errors.ts';
import type { Raw, RawBranch } from './form.ts';

/** One parameter: how its text becomes a value, and whether it must be there. */
export interface Field<T, Needed extends boolean = false> {
  parse(raw: Raw, path: string): T;
  needed: Needed;
  /** The fields inside, of an object or of the elements of a list. */
  inside?: Shape | undefined;
}
export type Shape = Record<string, Field<unknown, boolean>>;
export type Parsed<S extends Shape> = {
  [K in keyof S]: S[K] extends Field<infer T, true>
    ? T
    : S[K] extends Field<infer T, boolean>
      ? T | undefined
      : never;
};
export type Metadata = Record<string, string>;

/**
 * Reads parameters against a table of fields.
 *
 * @throws StripeError 400 in Stripe's words: `parameter_unknown`, `parameter_missing`, `parameter_invalid_empty`,
 *   `parameter_invalid_integer`, `url_invalid`.
 */
export function parseParams<S extends Shape>(shape: S, raw: RawBranch, path = ''): Parsed<S> {
  const unknown = Object.keys(raw).filter((name) => !Object.hasOwn(shape, name));
  if (unknown.length > 0) {
    const names = unknown.map((name) => nested(path, name));
    const plural = names.length > 1 ? 'parameters' : 'parameter';
    throw invalid(`Received unknown ${plural}: ${names.join(', ')}`, names[0], 'parameter_unknown');
  }
  const out: Record<string, unknown> = {};
  for (const [name, field] of Object.entries(shape)) {
    const value = raw[name];
    const at = nested(path, name);
    if (value !== undefined) out[name] = field.parse(value, at);
    else if (field.needed) throw missing(at);
  }
  return out as Parsed<S>;
}

/** The refusal of a request that lacks `param`. */
export function missing(param: string): StripeError {
  return invalid(`Missing required param: ${param}.`, param, 'parameter_missing');
}

function nested(path: string, name: string): string {
  return path === '' ? name : `${path}[${name}]`;
}

function field<T>(parse: (raw: Raw, path: string) => T, inside?: Shape): Field<T> {
  return { parse, needed: false, inside };
}

function emptyValue(path: string): StripeError {
  return invalid(
    `You passed an empty string for '${path}'. We assume empty values are an attempt to unset a parameter; however '${path}' cannot be unset. You should remove '${path}' from your request or supply a non-empty value.`,
    path,
    'parameter_invalid_empty',
  );
}

function text(raw: Raw, path: string): string {
  if (typeof raw !== 'string') throw invalid(`Invalid string: ${path} must be a string`, path);
  if (raw === '') throw emptyValue(path);
  return raw;
}

export function required<T>(inner: Field<T>): Field<T, true> {
  return { ...inner, needed: true };
}

/** Lets an empty string unset the value: it is read as null. */
export function clearable<T>(inner: Field<T>): Field<T | null> {
  return field((raw, path) => (raw === '' ? null : inner.parse(raw, path)), inner.inside);
}

export function string(max = 5000): Field<string> {
  return field((raw, path) => {
    const value = text(raw, path);
    if (value.length > max) throw invalid(`Invalid string: ${path} must be at most ${max} characters`, path);
    return value;
  });
}

export function oneOf<const T extends string>(...allowed: T[]): Field<T> {
  return field((raw, path) => {
    const value = text(raw, path);
    if (!(allowed as string[]).includes(value)) {
      const choices =
        allowed.length > 1 ? `${allowed.slice(0, -1).join(', ')} or ${allowed.at(-1)}` : allowed[0];
      throw invalid(`Invalid ${path}: must be one of ${choices}`, path);
    }
    return value as T;
  });
}

export function boolean(): Field<boolean> {
  return field((raw, path) => {
    const value = text(raw, path);
    if (value !== 'true' && value !== 'false') throw invalid(`Invalid boolean: ${value}`, path);
    return value === 'true';
  });
}

export function integer(min = Number.MIN_SAFE_INTEGER, max = 99_999_999): Field<number> {
  return field((raw, path) => {
    const value = text(raw, path);
    if (!/^-?\d{1,15}$/.test(value)) {
      throw invalid(`Invalid integer: ${value}`, path, 'parameter_invalid_integer');
    }
    const number = Number(value);
    if (number < min)
      throw invalid(`This value must be greater than or equal to ${min}.`, path, 'parameter_invalid_integer');
    if (number > max) {
      throw invalid(
        `This value must be less than or equal to ${max} (you passed ${number}).`,
        path,
        'parameter_invalid_integer',
      );
    }
    return number;
  });
}

/** Seconds since the epoch. */
export function timestamp(): Field<number> {
  return integer(0, 253_402_300_799);
}

export function url(): Field<string> {
  return field((raw, path) => {
    const value = text(raw, path);
    if (
      !URL.canParse(value.replaceAll('{CHECKOUT_SESSION_ID}', 'id')) ||
      !/^[a-z][a-z0-9+.-]*:\/\//i.test(value)
    ) {
      throw invalid('Not a valid URL', path, 'url_invalid');
    }
    if (/^(javascript|data|vbscript):/i.test(value)) throw invalid('Not a valid URL', path, 'url_invalid');
    return value;
  });
}

export function email(): Field<string> {
  return field((raw, path) => {
    const value = text(raw, path);
    if (!isEmail(value)) throw invalid(`Invalid email address: ${value}`, path, 'email_invalid');
    return value;
  });
}

/** Whether Stripe would take `value` for an address: one `@`, a dot behind it, no spaces, at most 512 characters. */
export function isEmail(value: string): boolean {
  return value.length <= 512 && /^[^\s@<>]+@[^\s@<>]+\.[^\s@<>]+$/.test(value);
}

export function object<S extends Shape>(shape: S): Field<Parsed<S>> {
  return field((raw, path) => {
    if (raw === '') throw emptyValue(path);
    if (typeof raw === 'string') throw invalid(`Invalid object`, path);
    return parseParams(shape, raw, path);
  }, shape);
}

export function list<T>(inner: Field<T, boolean>, most = 100): Field<T[]> {
  return field((raw, path) => {
    if (raw === '') throw emptyValue(path);
    if (typeof raw === 'string' || !Object.keys(raw).every((key) => /^\d{1,6}$/.test(key))) {
      throw invalid('Invalid array', path);
    }
    const entries = Object.entries(raw).sort(([a], [b]) => Number(a) - Number(b));
    if (entries.length > most)
      throw invalid(`Array ${path} exceeded maximum ${most} allowed elements.`, path);
    return entries.map(([index, value]) => inner.parse(value, nested(path, index)));
  }, inner.inside);
}

/** Stripe's metadata: up to 50 keys of 40 characters, values of 500. An empty value unsets a key, an empty whole all. */
export function metadata(): Field<Metadata | null> {
  return field((raw, path) => {
    if (raw === '') return null;
    if (typeof raw === 'string') throw invalid('Invalid object', path);
    const entries = Object.entries(raw);
    if (entries.length > 50) throw invalid('Metadata can have at most 50 keys.', path);
    for (const [key, value] of entries) {
      const at = nested(path, key);
      if (typeof value !== 'string') throw invalid(`Invalid string: metadata values must be strings`, at);
      if (key.length > 40) throw invalid('Metadata keys may be at most 40 characters.', at);
      if (value.length > 500) throw invalid('Metadata values may be at most 500 characters.', at);
    }
    return Object.fromEntries(entries as [string, string][]);
  });
}

/** Metadata after an update: given keys replace, empty values remove, the rest stays. */
export function mergeMetadata(existing: Metadata, update: Metadata | null | undefined): Metadata {
  if (update === undefined) return existing;
  const merged = Object.entries({ ...(update === null ? {} : existing), ...update });
  return Object.fromEntries(merged.filter(([, value]) => value !== ''));
}

export interface Range {
  gt?: number | undefined;
  gte?: number | undefined;
  lt?: number | undefined;
  lte?: number | undefined;
}

/** A filter on a time: one timestamp, or `[gt]`, `[gte]`, `[lt]`, `[lte]`. */
export function range(): Field<Range> {
  const bounds = object({ gt: timestamp(), gte: timestamp(), lt: timestamp(), lte: timestamp() });
  return field((raw, path) => {
    if (typeof raw !== 'string') return bounds.parse(raw, path);
    const exact = timestamp().parse(raw, path);
    return { gte: exact, lte: exact };
  });
}

export function inRange(value: number, { gt, gte, lt, lte }: Range): boolean {
  return value > (gt ?? -1) && value >= (gte ?? 0) && value < (lt ?? Infinity) && value <= (lte ?? Infinity);
}

/** A parameter of Stripe's that the sandbox understands only in the one value that changes nothing. */
export function only<const T extends string>(value: T): Field<T> {
  return field((raw, path) => {
    if (raw !== value) throw notInSandbox(path);
    return value;
  });
}

/** Parameters of Stripe's that the sandbox refuses by name. */
export function unsupported<const N extends string>(...names: N[]): Record<N, Field<undefined>> {
  const refuse = field<undefined>((_raw, path) => {
    throw notInSandbox(path);
  });
  return Object.fromEntries(names.map((name) => [name, refuse])) as Record<N, Field<undefined>>;
}

/** Only what was given: an update leaves the rest alone. */
export function given<T extends object>(params: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(
    Object.entries(params).filter(([name, value]) => value !== undefined && name !== 'expand'),
  ) as { [K in keyof T]?: Exclude<T[K], undefined> };
}
