import type { Request, Response } from 'express';
import type { Keystore } from '../../keystore/keystore.ts';
import { parseKey } from '../../shared/keys.ts';
import { ProblemError } from '../../shared/problems.ts';
import { consoleUrl, queryText } from './page.ts';

/**
 * What was pasted of a key must not come back in an address, whole or not, nor without its prefix. No e-mail address is
 * taken for one by its name.
 */
export function looksLikeKey(text: string): boolean {
  return /[0-9A-Za-z]{50}/.test(text) || (/_(live|test)_/.test(text) && !text.includes('@'));
}

/** Why what looks like a key leads to nothing. */
export function noSuchKey(asked: string): ProblemError {
  // Whoever has it may see a key that waits to be shown: it is kept as a hash, so nothing is found by it.
  if (/^cs_(live|test)_/.test(asked)) {
    return new ProblemError(
      'invalid_key',
      'This is the id of a checkout session, and nothing can be found by it. Search by e-mail, customer, subscription or payment.',
      { remedy: null },
    );
  }
  return new ProblemError(
    'invalid_key',
    parseKey(asked)
      ? 'No key like this was ever issued here: a request with it is answered 401.'
      : 'What was sent is not a whole key: its form or checksum is wrong.',
    { remedy: 'Ask by the id of the key instead: it is no secret, and stands in each answer of /whoami.' },
  );
}

/**
 * What is searched for by an address.
 *
 * @throws ProblemError `invalid_request` where it looks like a key: no page is to say or to link it
 */
export function searchedFor(request: Request): string | undefined {
  const q = queryText(request, 'q');
  if (q === undefined || !looksLikeKey(q)) return q;
  throw new ProblemError('invalid_request', 'What is searched for looks like a key.', {
    remedy:
      'An address is no place for one: it is kept in histories and logs. Put it into the field on the page.',
  });
}

/**
 * Answers the form of a search by sending the browser on: to the key, for a whole one, else to the list of what fits.
 *
 * @param fields of the form, which the list's address takes too
 * @returns what is wrong; then nothing was answered
 */
export async function answerSearch(
  keystore: Keystore,
  request: Request,
  response: Response,
  list: { path: string; fields: readonly string[] },
): Promise<ProblemError | undefined> {
  const asked = (name: string) => {
    const value: unknown = request.body?.[name];
    return (typeof value === 'string' && value.trim().slice(0, 200)) || undefined;
  };
  const q = asked('q');
  if (q === undefined || !looksLikeKey(q)) {
    const query = Object.fromEntries(list.fields.map((name) => [name, asked(name)]));
    response.redirect(303, consoleUrl(list.path, query));
    return undefined;
  }
  const key = await keystore.authenticateKey(q);
  if (!key) return noSuchKey(q);
  response.redirect(303, `/console/keys/${key.id}`);
  return undefined;
}
