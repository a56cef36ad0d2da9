import { invalid } from './errors.ts';

/** A decoded form value: text, or a branch whose keys are names or array indexes. Branches have no prototype. */
export type Raw = string | RawBranch;
export interface RawBranch {
  [key: string]: Raw;
}

const mostPairs = 1000;
const deepest = 8;

export function branch(): RawBranch {
  return Object.create(null) as RawBranch;
}

/**
 * Decodes `application/x-www-form-urlencoded` text with nested brackets, as Stripe's SDKs send it:
 * `line_items[0][price]=price_1&expand[]=customer`.
 *
 * @throws StripeError 400 for too many or too deep names, names that clash, and `__proto__`.
 */
export function decodeForm(text: string, into: RawBranch = branch()): RawBranch {
  if (text === '') return into;
  const pairs = text.split('&');
  if (pairs.length > mostPairs) throw invalid(`Too many parameters: at most ${mostPairs} are accepted.`);
  for (const pair of pairs) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const name = unescapeForm(equals < 0 ? pair : pair.slice(0, equals));
    const value = equals < 0 ? '' : unescapeForm(pair.slice(equals + 1));
    put(into, name, value);
  }
  return into;
}

function unescapeForm(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    throw invalid('Invalid request: the parameters are not valid percent-encoded UTF-8.');
  }
}

function put(into: RawBranch, name: string, value: string): void {
  const segments = segmentsOf(name);
  let at = into;
  for (const [depth, segment] of segments.entries()) {
    const key = segment === '' ? String(Object.keys(at).length) : segment;
    if (key === '__proto__') throw invalid(`Received unknown parameter: ${name}`, name, 'parameter_unknown');
    const existing = at[key];
    if (depth === segments.length - 1) {
      if (typeof existing === 'object') throw invalid(`Invalid object: ${name}`, name);
      at[key] = value;
    } else {
      if (typeof existing === 'string') throw invalid(`Invalid object: ${name}`, name);
      const next = existing ?? branch();
      at[key] = next;
      at = next;
    }
  }
}

function segmentsOf(name: string): string[] {
  const open = name.indexOf('[');
  if (open <= 0) return [name];
  const rest = name.slice(open);
  if (!/^(\[[^[\]]*\])+$/.test(rest)) throw invalid(`Invalid parameter name: ${name}`, name);
  const segments = [name.slice(0, open), ...rest.slice(1, -1).split('][')];
  if (segments.length > deepest) throw invalid(`Parameter nested too deeply: ${name}`, name);
  return segments;
}

/**
 * The body of a request of the newer API, in the form that parameters are read from.
 *
 * @throws StripeError 400 for what is not a JSON object.
 */
export function fromJson(text: string): RawBranch {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid('Invalid request: the body is not JSON.');
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw invalid('Invalid request: the body is not a JSON object.');
  return rawOf(value, 0) as RawBranch;
}

function rawOf(value: unknown, depth: number): Raw {
  if (depth > deepest) throw invalid('Parameter nested too deeply.');
  if (value === null) return '';
  if (typeof value !== 'object') return String(value);
  const into = branch();
  for (const [key, inner] of Object.entries(value)) {
    if (key === '__proto__') throw invalid(`Received unknown parameter: ${key}`, key, 'parameter_unknown');
    into[key] = rawOf(inner, depth + 1);
  }
  return into;
}
