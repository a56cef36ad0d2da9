import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Request, Response } from 'express';
import { deriveKey } from '../../keystore/key-hash.ts';
import type { Keystore } from '../../keystore/keystore.ts';
import type { Config } from '../../shared/config.ts';
import { ProblemError } from '../../shared/problems.ts';
import { checkOrigin, cookieValues } from '../own-forms.ts';

/** Who is signed in to the console. */
export type Operator = {
  name: string;
  /** What every form of this session carries. */
  formToken: string;
};

/** For how long a browser that somebody signed in by is known. */
const KNOWN_MS = 180 * 86_400_000;

/**
 * Ties browsers to those who signed in by them. The session's token is only in a cookie and, hashed, in the keystore. A
 * second cookie outlives it: it opens nothing, but lets its user try to sign in from here while guesses from elsewhere have
 * used up what a name may be tried.
 */
export class ConsoleSessions {
  readonly #keystore: Keystore;
  readonly #formKey: Buffer;
  readonly #browserKey: Buffer;
  readonly #https: boolean;
  readonly #publicOrigin: string;

  constructor(
    { serverSecret, publicBillingUrl }: Pick<Config, 'serverSecret' | 'publicBillingUrl'>,
    keystore: Keystore,
  ) {
    this.#keystore = keystore;
    this.#formKey = deriveKey(serverSecret, 'console form');
    this.#browserKey = deriveKey(serverSecret, 'console browser');
    this.#https = publicBillingUrl.startsWith('https:');
    this.#publicOrigin = new URL(publicBillingUrl).origin;
  }

  /**
   * Signs a browser in whose user's password was right, with a new token whatever it had before. @returns why not, when the code
   * is wrong or the user may no longer
   */
  async start(
    request: Request,
    response: Response,
    { name, ...proof }: { name: string; passwordHash: string; code: string },
  ): Promise<'started' | 'wrong_code' | 'no_longer'> {
    const [instead] = cookieValues(request, this.#name('console'));
    const by = { actor: `console:${name}`, ...(request.ip ? { address: request.ip } : {}) };
    const started = await this.#keystore.startConsoleSession({ name, ...proof, instead, ...by });
    if (typeof started === 'string') return started;
    const { token } = started;
    response.cookie(this.#name('console'), token, this.#attributes);
    const browser = `${name}:${randomBytes(16).toString('base64url')}`;
    response.cookie(
      this.#name('console_browser'),
      `${Buffer.from(browser).toString('base64url')}.${mac(this.#browserKey, browser)}`,
      { ...this.#attributes, maxAge: KNOWN_MS },
    );
    return 'started';
  }

  /** Who is signed in; `undefined`: nobody. */
  async operator(request: Request): Promise<Operator | undefined> {
    for (const token of cookieValues(request, this.#name('console'))) {
      const name = await this.#keystore.findConsoleSession(token);
      if (name !== undefined) return { name, formToken: mac(this.#formKey, token) };
    }
    return undefined;
  }

  async end(request: Request, response: Response): Promise<void> {
    for (const token of cookieValues(request, this.#name('console')))
      await this.#keystore.endConsoleSession(token);
    response.clearCookie(this.#name('console'), this.#attributes);
  }

  /** What a browser is known by in which this user has signed in before; `undefined`: in this one not. */
  knownBrowser(request: Request, name: string): string | undefined {
    for (const value of cookieValues(request, this.#name('console_browser'))) {
      const [encoded = '', signature = ''] = value.split('.');
      const browser = Buffer.from(encoded, 'base64url').toString();
      if (browser.startsWith(`${name}:`) && isEqual(signature, mac(this.#browserKey, browser)))
        return browser;
    }
    return undefined;
  }

  /** Refuses a form that a page of another site sent. @throws ProblemError `invalid_request` */
  checkOrigin(request: Request): void {
    checkOrigin(request, this.#publicOrigin);
  }

  /** Refuses a form that no page of this session sent. @throws ProblemError `invalid_request` */
  checkForm(request: Request, operator: Operator): void {
    this.checkOrigin(request);
    const { form_token } = (request.body ?? {}) as { form_token?: unknown };
    if (typeof form_token === 'string' && isEqual(form_token, operator.formToken)) return;
    throw new ProblemError('invalid_request', 'This form belongs to another sign-in.', {
      remedy: 'Nothing was changed. Open the page anew and try again there.',
    });
  }

  /** The prefix makes browsers refuse a cookie of this name that another host or a page without TLS set. */
  #name(what: 'console' | 'console_browser'): string {
    return `${this.#https ? '__Host-' : ''}tollgate_${what}`;
  }

  get #attributes() {
    return { httpOnly: true, sameSite: 'strict', path: '/', secure: this.#https } as const;
  }
}

function mac(key: Buffer, text: string): string {
  return createHmac('sha256', key).update(text).digest('base64url');
}

function isEqual(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}
