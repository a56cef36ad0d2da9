import express, { type Request, type Response, type Router } from 'express';
import { z } from 'zod';
import { AddressLimit } from '../../shared/address-limit.ts';
import { onlyBy, parsedBody } from '../../shared/methods.ts';
import { ProblemError } from '../../shared/problems.ts';
import { RateLimit } from '../../shared/rate-limit.ts';
import { answerStatus } from '../answer-status.ts';
import type { Billing } from '../context.ts';
import { sendPage } from '../pages.ts';
import type { ConsoleSessions } from './sessions.ts';

/** How often an address may be wrong, and how often a name or a browser may, in a quarter of an hour. */
const ADDRESS_TRIES = 20;
const NAME_TRIES = 10;
const TRIES_WINDOW_S = 900;
/** How many passwords are checked at a time: each takes 19 MiB. The rest is told to come again. */
const CHECKS_AT_ONCE = 4;

const formSchema = z.strictObject({
  // PostgreSQL takes no NUL in a text.
  name: z
    .string()
    .max(40)
    .regex(/^\P{Cc}*$/u),
  password: z.string().max(1024),
  code: z.string().max(20).default(''),
});

/**
 * `GET /console/sign-in`: the form; `POST` signs in. Wrong passwords are counted by address and by name. A browser in which the
 * user has signed in before is counted by itself, so that nobody keeps a user out by guessing.
 */
export function signInRoutes({ keystore, log }: Billing, sessions: ConsoleSessions): Router {
  const router = express.Router();
  const byAddress = new AddressLimit(ADDRESS_TRIES, TRIES_WINDOW_S);
  const byName = new RateLimit(NAME_TRIES, TRIES_WINDOW_S, 'Too many tries to sign in by this name.');
  const ofCodes = new RateLimit(NAME_TRIES, TRIES_WINDOW_S, 'Too many wrong codes for this name.');
  let checking = 0;

  router.get('/sign-in', (_request, response) => showSignIn(response));
  router.post(
    '/sign-in',
    express.urlencoded({ extended: false, limit: '4kb' }),
    parsedBody,
    async (request, response) => {
      try {
        sessions.checkOrigin(request);
        await signIn(request, response);
        response.redirect(303, '/console');
      } catch (error) {
        if (!(error instanceof ProblemError)) throw error;
        if (error.code === 'wrong_sign_in')
          log.warn({ address: request.ip }, 'Somebody failed to sign in to the console');
        showSignIn(response, error);
      }
    },
  );
  router.all('/sign-in', onlyBy('GET', 'POST'));
  return router;

  /** @throws ProblemError why nobody is signed in */
  async function signIn(request: Request, response: Response): Promise<void> {
    const input = formSchema.safeParse(request.body);
    if (!input.success) throw new ProblemError('wrong_sign_in');
    const { name, password, code } = input.data;
    const counted = sessions.knownBrowser(request, name) ?? name;
    // Counted before anything is looked at, so that many tries at once are no more than one after the other.
    await byAddress.spend(request);
    await byName.spend(counted);
    const right = await checked({ name, password });
    // Whoever has the password may know many browsers, and has the same few tries at the code from all of them.
    await ofCodes.spend(name);
    const outcome = await sessions.start(request, response, { name, ...right, code });
    if (outcome === 'wrong_code')
      log.warn({ user: name, address: request.ip }, 'Somebody has the password of a user, and not the code');
    if (outcome !== 'started') throw new ProblemError('wrong_sign_in');
    await byAddress.refund(request);
    await byName.refund(counted);
    await ofCodes.refund(name);
    log.info({ user: name, address: request.ip }, 'Signed in to the console');
  }

  /** @throws ProblemError `wrong_sign_in`; `overloaded` */
  async function checked(given: { name: string; password: string }): Promise<{ passwordHash: string }> {
    if (checking >= CHECKS_AT_ONCE)
      throw new ProblemError('overloaded', 'Too many people sign in at this moment.', {
        remedy: 'Try again in a moment.',
      });
    checking++;
    try {
      const right = await keystore.checkConsolePassword(given);
      if (right === null) throw new ProblemError('wrong_sign_in');
      return right;
    } finally {
      checking--;
    }
  }
}

function showSignIn(response: Response, problem?: ProblemError): void {
  if (problem) answerStatus(response, problem);
  sendPage(response, 'console/sign-in', { problem: problem?.toProblem() });
}
