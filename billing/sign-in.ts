import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Request, Response } from 'express';
import { deriveKey } from '../keystore/key-hash.ts';
import type { Config } from '../shared/config.ts';
import { ProblemError } from '../shared/problems.ts';

/** How long a sign-in lasts, milliseconds. */
const VALID_MS = 1_800_000;
const COOKIE_PATH = '/billing';

/**
 * Remembers in a cookie which key a browser has shown: its id, until when, and an HMAC under a key of its own, never the
 * key itself. It proves who signed in and nothing else: how the key stands is looked up with every request.
 */
export class SignIn {
  readonly #hmacKey: Buffer;
  readonly #https: boolean;
  readonly #publicOrigin: string;

  constructor({ serverSecret, publicBillingUrl }: Pick<Config, 'serverSecret' | 'publicBillingUrl'>) {
    this.#hmacKey = deriveKey(serverSecret, 'manage sign-in');
    this.#https = publicBillingUrl.startsWith('https:');
    this.#publicOrigin = new URL(publicBillingUrl).origin;
  }

  /** Signs a browser in by a key. */
  start(response: Response, keyId: string): void {
    const statement = `${keyId}.${Date.now() + VALID_MS}`;
    response.cookie(this.#name, `${statement}.${this.#sign(statement)}`, {
      ...this.#attributes,
      maxAge: VALID_MS,
    });
  }

  end(response: Response): void {
    response.clearCookie(this.#name, this.#attributes);
  }

  /** The id of the key that a browser signed in by; `undefined`: it has not, or too long ago. */
  keyId(request: Request): string | undefined {
    const cookies = (request.get('cookie') ?? '').split(';').map((part) => part.trim());
    for (const cookie of cookies.filter((part) => part.startsWith(`${this.#name}=`))) {
      const [keyId = '', until = '', signature = '', ...rest] = cookie
        .slice(this.#name.length + 1)
        .split('.');
      const expected = Buffer.from(this.#sign(`${keyId}.${until}`));
      const given = Buffer.from(signature);
      const signed = given.length === expected.length && timingSafeEqual(given, expected);
      if (rest.length === 0 && signed && Number(until) > Date.now()) return keyId;
    }
    return undefined;
  }

  /**
   * Refuses a form that another site's page sent with this browser's cookie. `SameSite=Strict` keeps such cookies back;
   * this also holds for a neighbour on the same site, and where a browser knows no `SameSite`.
   *
   * @throws ProblemError `invalid_request`
   */
  checkOrigin(request: Request): void {
    const site = request.get('sec-fetch-site');
    const origin = request.get('origin');
    const own = [this.#publicOrigin, `${request.protocol}://${request.get('host')}`];
    if (site !== undefined ? site === 'same-origin' || site === 'none' : !origin || own.includes(origin))
      return;
    throw new ProblemError('invalid_request', 'This form was sent by a page of another site.', {
      remedy: 'Nothing was changed. Open the manage page and try again there.',
    });
  }

  /** The prefix makes browsers refuse a cookie of this name that came without TLS. */
  get #name(): string {
    return `${this.#https ? '__Secure-' : ''}tollgate_manage`;
  }

  get #attributes() {
    return { httpOnly: true, sameSite: 'strict', path: COOKIE_PATH, secure: this.#https } as const;
  }

  #sign(statement: string): string {
    return createHmac('sha256', this.#hmacKey).update(statement).digest('base64url');
  }
}
