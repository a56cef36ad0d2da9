import express, { type Request, type Response, type Router } from 'express';
import { Secret, TOTP } from 'otpauth';
import { renderSVG } from 'uqr';
import { z } from 'zod';
import { passwordFault } from '../../keystore/console-users.ts';
import { onlyBy } from '../../shared/methods.ts';
import { ProblemError } from '../../shared/problems.ts';
import { RateLimit } from '../../shared/rate-limit.ts';
import { answerStatus } from '../answer-status.ts';
import type { Billing } from '../context.ts';
import { byOperator, operatorOf, readForm, sendConsolePage } from './page.ts';

/** How often an operator may be wrong about the own password or code in a quarter of an hour. */
const TRIES = 10;
const TRIES_WINDOW_S = 900;

const code = z.string().max(20);
/** 20 bytes in Base32, as RFC 4226 recommends. */
const secret = z.string().regex(/^[A-Z2-7]{32}$/);
const password = z.string().max(1024);
const FORMS = {
  setUp: z.strictObject({ secret, code, password }),
  remove: z.strictObject({ code }),
  password: z.strictObject({ password, new_password: password, again: password }),
};

/**
 * `/console/account`: whoever is signed in changes the own password, and sets up or removes a second factor. Either asks for
 * what a borrowed browser does not have.
 */
export function accountPages({ keystore, config, log }: Billing): Router {
  const router = express.Router();
  const tries = new RateLimit(TRIES, TRIES_WINDOW_S, 'Too many tries.');

  router.get('/account', (_request, response) => show(response));
  router.all('/account', onlyBy('GET'));

  router.post('/account/second-factor', (request, response) =>
    change(request, response, async (name, by) => {
      const { password, ...input } = readForm(FORMS.setUp, request);
      await checkPassword(name, password);
      const outcome = await keystore.setUpSecondFactor({ name, ...input, ...by });
      if (outcome === 'wrong_code') throw wrongCode();
      if (outcome !== 'set_up') throw refused('A second factor was set up meanwhile, with another secret.');
      log.info({ user: name }, 'Second factor set up in the console');
    }),
  );
  router.all('/account/second-factor', onlyBy('POST'));

  router.post('/account/remove-second-factor', (request, response) =>
    change(request, response, async (name, by) => {
      const { code } = readForm(FORMS.remove, request);
      const outcome = await keystore.removeSecondFactor({ name, code, ...by });
      if (outcome === 'wrong_code') throw wrongCode();
      if (outcome === 'removed') log.info({ user: name }, 'Second factor removed in the console');
    }),
  );
  router.all('/account/remove-second-factor', onlyBy('POST'));

  router.post('/account/password', (request, response) =>
    change(request, response, async (name, by) => {
      const input = readForm(FORMS.password, request);
      const fault =
        input.new_password === input.again ? passwordFault(input.new_password) : 'The new passwords differ.';
      if (fault) throw refused(fault);
      await checkPassword(name, input.password);
      const changed = { name, password: input.new_password, ...by };
      if ((await keystore.changeConsolePassword(changed)) === 'not_found')
        throw refused('You were disabled meanwhile.');
      log.info({ user: name }, 'Password changed in the console');
    }),
  );
  router.all('/account/password', onlyBy('POST'));
  return router;

  /** Does what a form of the page asks for, and shows the page anew: with what was wrong, or as it is then. */
  async function change(
    request: Request,
    response: Response,
    work: (name: string, by: ReturnType<typeof byOperator>) => Promise<void>,
  ): Promise<void> {
    const { name } = operatorOf(response);
    try {
      // Counted before it is looked at, so that many tries at once are no more than one after the other.
      await tries.spend(name);
      await work(name, byOperator(request, response));
      await tries.refund(name);
      response.redirect(303, '/console/account');
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      answerStatus(response, error);
      // The secret that was told to an app already, so that it need not be told another.
      const { secret: told } = (request.body ?? {}) as { secret?: unknown };
      await show(response, error, secret.safeParse(told).data);
    }
  }

  async function checkPassword(name: string, password: string): Promise<void> {
    if ((await keystore.checkConsolePassword({ name, password })) === null)
      throw refused('The password is wrong.');
  }

  async function show(
    response: Response,
    problem?: ProblemError,
    told = new Secret({ size: 20 }).base32,
  ): Promise<void> {
    const { name } = operatorOf(response);
    const user = (await keystore.listConsoleUsers()).find((each) => each.name === name);
    sendConsolePage(response, 'account', {
      problem: problem?.toProblem(),
      setUp: user?.secondFactor ? null : setUp(told, name),
    });
  }

  /** What the page shows of a secret that no app has been told yet. */
  function setUp(base32: string, name: string) {
    // A colon would divide issuer and user.
    const issuer = config.productName.replaceAll(':', ' ');
    const uri = new TOTP({ secret: Secret.fromBase32(base32), issuer, label: name }).toString();
    return { secret: base32, groups: base32.match(/.{4}/g) ?? [], qr: renderSVG(uri, { border: 4 }) };
  }
}

function refused(why: string): ProblemError {
  return new ProblemError('invalid_request', why, { remedy: 'Nothing was changed.' });
}

function wrongCode(): ProblemError {
  return new ProblemError('invalid_request', 'This code is wrong, or was used before.', {
    remedy:
      "Nothing was changed. Wait for the next code; if that is wrong too, check that the phone's clock is right.",
  });
}
