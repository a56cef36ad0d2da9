/** A key without a scheme, or under one of the client's own. */
const KEY_FORM = /_(?:live|test)_[0-9A-Za-z]{50}/;
const BEARER = /^bearer(?:[ \t]+(.*))?$/i;

/** Header lines that carry a credential, as name, value, ... @param raw all lines, as name, value, ... */
export function credentialLines(raw: readonly string[]): string[] {
  const lines: string[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    const name = (raw[i] as string).toLowerCase();
    if (name === 'x-api-key' || name === 'authorization') lines.push(raw[i] as string, raw[i + 1] as string);
  }
  return lines;
}

/**
 * Whether a header of a request is not for the seller's handler, as it is not for an API behind the gateway: the key,
 * wherever it stands; and what says who the customer is, which only the gateway may say. A name spelt with underscores is the
 * same one to a CGI-like program, so it goes too.
 *
 * @param keys what was presented: see {@link presentedKeys}
 */
export function endsHere(name: string, value: string, keys: readonly string[]): boolean {
  const plain = name.toLowerCase().replaceAll('_', '-');
  if (plain === 'x-api-key' || plain === 'x-request-id' || /^x-(?:consumer|credential)-/.test(plain))
    return true;
  if (plain === 'authorization' && (BEARER.test(value.trim()) || KEY_FORM.test(value))) return true;
  return keys.some((key) => value.includes(key));
}

/** The keys in credential lines, given as name, value, ... */
export function presentedKeys(lines: readonly string[]): string[] {
  const keys: string[] = [];
  for (let i = 0; i < lines.length; i += 2) {
    const value = (lines[i + 1] as string).trim();
    const bearer = BEARER.exec(value);
    const key = (lines[i] as string).toLowerCase() === 'x-api-key' ? value : (bearer?.[1] ?? '').trim();
    if (key !== '') keys.push(key);
  }
  return keys;
}
