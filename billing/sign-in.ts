import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Request, Response } from 'express';
import { deriveKey } from '../keystore/key-hash.ts';
import type { Config } from '../shared/config.ts';
import { checkOrigin, cookieValues } from './own-forms.ts';

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
    for (const cookie of cookieValues(request, this.#name)) {
      const [keyId = '', until = '', signature = '', ...rest] = cookie.split('.');
      const expected = Buffer.from(this.#sign(`${keyId}.${until}`));
      const given = Buffer.from(signature);
      const signed = given.length === expected.length && timingSafeEqual(given, expected);
      if (rest.length === 0 && signed && Number(until) > Date.now()) return keyId;
    }
    return undefined;
  }

  /** Refuses a form that another site's page sent. @throws ProblemError `invalid_request` */
  checkOrigin(request: Request): void {
    checkOrigin(request, this.#publicOrigin);
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
