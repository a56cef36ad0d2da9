/** Spellings that one server takes for another path than the next server does. Most paths have none of them. */
const UNUSUAL = /[%;\\]|\/[./]|[^!-~]/;
const MALFORMED_ESCAPE = /%(?![0-9A-Fa-f]{2})/;
/** RFC 3986 section 2.3: these may be spelt encoded or not, and it is the same path. */
const ENCODED_UNRESERVED = /%(?:2[de]|3\d|[46][1-9a-f]|[57][\da]|5f|7e)/gi;
/**
 * An empty segment at the beginning; segments that go up; control characters; bytes that UTF-8 never has, and that careless decoders take for the beginning
 * of a slash or a dot.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const NEVER = /^\/\.?\/|\/\.\.(?:\/|$)|[\0-\x1f\x7f\xc0\xc1]|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]/;

/** The two ends of what servers make of a path. */
export type PathReadings = {
  /** As it is written, with unreserved characters decoded: the same path to everybody (RFC 3986 section 6.2.2). */
  exact: string;
  /**
   * As the freest reader has it: decoded until nothing is left to decode, backslashes for slashes, empty and `.` segments
   * and what follows `;`, `?` or `#` in a segment left out, in lower case. Without a slash at its end; `/` is empty.
   */
  furthest: string;
};

/**
 * What different servers make of a path. Every other reading of it lies between the two: a prefix of ordinary segments
 * that `exact` begins with is one that any reading begins with, and `furthest` begins with it too. So if the two match
 * the same route, every reading does.
 *
 * @param path a request target without its query, beginning with a slash
 * @returns `null` for a path that could be any other: with `..` segments, control characters, malformed escapes, or an
 * empty segment at its beginning (some take what follows two slashes for a host name)
 */
export function readPath(path: string): PathReadings | null {
  if (!UNUSUAL.test(path)) return { exact: path, furthest: withoutLastSlash(path).toLowerCase() };
  if (MALFORMED_ESCAPE.test(path)) return null;
  const decoded = decodeFully(path).replaceAll('\\', '/');
  const segments = decoded.replace(/[;?#][^/]*/g, '');
  if (NEVER.test(segments)) return null;
  return {
    exact: path.replace(ENCODED_UNRESERVED, decodeOne),
    furthest: segments.replace(/(?:\/\.?(?=\/|$))+/g, '').toLowerCase(),
  };
}

/** Whether a path, as read, is `prefix` or lies below it. @param prefix without a slash at its end, unless it is `/` */
export function isBelow(path: string, prefix: string): boolean {
  if (prefix === '/') return true;
  return path.startsWith(prefix) && (path.length === prefix.length || path[prefix.length] === '/');
}

/** Decodes escapes, and those that come out of it, in one pass. Bytes, as characters of Latin-1. */
function decodeFully(path: string): string {
  if (!path.includes('%')) return path;
  const decoded = Buffer.from(path, 'latin1');
  let end = 0;
  for (const byte of decoded) {
    decoded[end++] = byte;
    while (end >= 3 && decoded[end - 3] === 37 /* percent sign */) {
      const value = hexValue(decoded[end - 2] as number) * 16 + hexValue(decoded[end - 1] as number);
      if (Number.isNaN(value)) break;
      end -= 2;
      decoded[end - 1] = value;
    }
  }
  return decoded.toString('latin1', 0, end);
}

function hexValue(character: number): number {
  return HEX_VALUES[character] ?? Number.NaN;
}

const HEX_VALUES: Readonly<Record<number, number>> = Object.fromEntries(
  [...'0123456789abcdefABCDEF'].map((digit) => [digit.charCodeAt(0), Number.parseInt(digit, 16)]),
);

function decodeOne(escaped: string): string {
  return String.fromCharCode(Number.parseInt(escaped.slice(1), 16));
}

function withoutLastSlash(path: string): string {
  return path.endsWith('/') ? path.slice(0, -1) : path;
}
