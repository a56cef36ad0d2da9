/** What a request presents as its credential. */
export type Credential =
  | { kind: 'none' }
  /** As the client sent it; may be anything of up to the listener's header size. */
  | { kind: 'key'; text: string }
  /** Two different credentials: which one was meant is not for us to guess. */
  | { kind: 'conflict' };

export const NO_CREDENTIAL: Credential = { kind: 'none' };
const CONFLICT: Credential = { kind: 'conflict' };
/** The subprotocol that the gateway answers with when the server chooses none. */
export const OUR_PROTOCOL = 'tollgate';
const KEY_PROTOCOL = 'tollgate.key.';
/** A key without a scheme, or with one of the client's own, is no credential; on a public route it would go upstream. */
const KEY_FORM = /_(?:live|test)_[0-9A-Za-z]{50}/;
const BEARER = /^bearer[ \t]+(.*)$/i;

/**
 * The credential in a request's headers. The same key twice, in one header or in both, is one key. `Authorization` with
 * a scheme other than Bearer (RFC 9110 section 11.6.2) is the upstream's own business and no credential of ours.
 *
 * @param apiKeys every `X-API-Key` line's value
 * @param authorizations every `Authorization` line's value
 */
export function presentedKey(apiKeys: readonly string[], authorizations: readonly string[]): Credential {
  let found: string | undefined;
  for (const value of apiKeys) {
    const text = value.trim();
    if (text === '') continue;
    if (found !== undefined && found !== text) return CONFLICT;
    found = text;
  }
  for (const value of authorizations) {
    const text = bearerToken(value);
    if (text === undefined || text === '') continue;
    if (found !== undefined && found !== text) return CONFLICT;
    found = text;
  }
  return found === undefined ? NO_CREDENTIAL : { kind: 'key', text: found };
}

/** What may go upstream of the `Authorization` lines: those of another scheme, unless one carries a key. */
export function foreignAuthorizations(authorizations: readonly string[], credential: Credential): string[] {
  return authorizations.filter(
    (value) =>
      bearerToken(value) === undefined &&
      !KEY_FORM.test(value) &&
      !(credential.kind === 'key' && value.includes(credential.text)),
  );
}

/**
 * What may go upstream of an offer of WebSocket subprotocols. A browser cannot set headers on a WebSocket, so the key may
 * be one of the subprotocols: `new WebSocket(url, ['tollgate', 'tollgate.key.' + key])`. Beside it stands one that can be
 * chosen: browsers insist on it, and a key is not to be repeated in an answer.
 *
 * @param keys where keys that are found are put
 */
export function withoutOurProtocols(offer: string, keys: string[]): string {
  if (!offer.includes(OUR_PROTOCOL)) return offer;
  const others: string[] = [];
  for (const entry of offer.split(',')) {
    const protocol = entry.trim();
    if (protocol.startsWith(KEY_PROTOCOL)) keys.push(protocol.slice(KEY_PROTOCOL.length));
    else if (protocol !== OUR_PROTOCOL) others.push(protocol);
  }
  return others.join(', ');
}

function bearerToken(value: string): string | undefined {
  const text = value.trim();
  return BEARER.exec(text)?.[1]?.trim() ?? (text.toLowerCase() === 'bearer' ? '' : undefined);
}
