/** Values that came from elsewhere, read strictly. Each of these throws a {@link ShapeError} that names the member. */
export type Shape = Readonly<Record<string, unknown>>;

/** Something is not of the form that it has to have. */
export class ShapeError extends Error {}

export function shape(value: unknown, name: string): Shape {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ShapeError(`${name} is not an object`);
  }
  return value as Shape;
}

export function list(from: Shape, name: string): unknown[] {
  const value = from[name];
  if (!Array.isArray(value)) throw new ShapeError(`${name} is not a list`);
  return value;
}

export function text(from: Shape, name: string): string {
  const value = from[name];
  if (typeof value !== 'string' || value === '') throw new ShapeError(`${name} is not a text`);
  return value;
}

export function textOrNull(from: Shape, name: string): string | null {
  return from[name] === null || from[name] === undefined || from[name] === '' ? null : text(from, name);
}

export function flag(from: Shape, name: string): boolean {
  const value = from[name];
  if (typeof value !== 'boolean') throw new ShapeError(`${name} is neither true nor false`);
  return value;
}

/** No date is later (ECMA-262 section 21.4.1.1), milliseconds since the epoch. */
export const LATEST_MS = 8.64e15;

/** A whole number from 0 on, which may also be a time in milliseconds. */
export function count(from: Shape, name: string): number {
  const value = from[name];
  if (!Number.isSafeInteger(value) || (value as number) < 0 || (value as number) > LATEST_MS) {
    throw new ShapeError(`${name} is not a whole number`);
  }
  return value as number;
}

export function countOrNull(from: Shape, name: string): number | null {
  return from[name] === null || from[name] === undefined ? null : count(from, name);
}

/** A time as ISO 8601, in milliseconds since the epoch. */
export function time(from: Shape, name: string): number {
  const at = Date.parse(text(from, name));
  if (Number.isNaN(at)) throw new ShapeError(`${name} is not a time`);
  return at;
}

export function timeOrNull(from: Shape, name: string): number | null {
  return from[name] === null || from[name] === undefined ? null : time(from, name);
}

export function oneOf<T extends string>(from: Shape, name: string, values: readonly T[]): T {
  const value = from[name];
  if (!values.includes(value as T)) throw new ShapeError(`${name} is none of ${values.join(', ')}`);
  return value as T;
}

export type FeatureValue = boolean | number | string;
/** What a plan includes beside requests: `true` and `false`, or a value such as how many projects. */
export type Features = Readonly<Record<string, FeatureValue>>;

export function features(from: Shape, name: string): Features {
  // Without a prototype: a feature may have any name, and one that was not granted must not be found.
  const granted: Record<string, FeatureValue> = Object.create(null);
  for (const [feature, value] of Object.entries(shape(from[name], name))) {
    granted[feature] = featureValue(value, `${name}.${feature}`);
  }
  return granted;
}

export function featureValue(value: unknown, name: string): FeatureValue {
  if (typeof value === 'boolean' || typeof value === 'number' || typeof value === 'string') return value;
  throw new ShapeError(`${name} is neither a flag, a number nor a text`);
}

export const MODES = ['live', 'test'] as const;
/** Live costs real money; test never does. */
export type Mode = (typeof MODES)[number];
