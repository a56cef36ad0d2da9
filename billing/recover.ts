import express, { type Request, type Response, type Router } from 'express';
import { z } from 'zod';
import type { RotationRefusal } from '../keystore/keystore.ts';
import { AddressLimit } from '../shared/address-limit.ts';
import { fieldErrors } from '../shared/field-errors.ts';
import { onlyBy, parsedBody } from '../shared/methods.ts';
import { ProblemError } from '../shared/problems.ts';
import type { Billing } from './context.ts';
import { showKey } from './key-page.ts';
import { MANAGE_PATH } from './manage.ts';
import { sendPage, wantsPage } from './pages.ts';

/** How often an address may ask for links in a minute. */
const REQUESTS_A_MINUTE = 10;
/** How often an address may open links in a minute. */
const LINKS_A_MINUTE = 60;

export const RECOVER_PATH = '/billing/recover';
const KEY_PATH = `${RECOVER_PATH}/key`;

const bodySchema = z.strictObject({
  email: z
    .string({ error: 'is required: the address you paid with' })
    .trim()
    .pipe(z.email({ error: 'is not an e-mail address' }).max(254)),
});

/**
 * A lost key is replaced through a link to the address that Stripe has of the customer. `POST /billing/recover {email}`
 * asks for it and is answered alike whether anybody has that address; `GET /billing/recover/key` says what the link would
 * do, and only `POST` does it: mail scanners open links too.
 */
export function recoverRoutes(billing: Billing): Router {
  const router = express.Router();
  const { config, keystore, log, plans, worker } = billing;
  const requests = new AddressLimit(REQUESTS_A_MINUTE, 60);
  const links = new AddressLimit(LINKS_A_MINUTE, 60);
  const form = [
    express.json({ limit: '4kb' }),
    express.urlencoded({ extended: false, limit: '4kb' }),
    parsedBody,
  ];

  router.use(RECOVER_PATH, (_request, _response, next) => {
    if (config.mail === null) throw new ProblemError('mail_not_configured');
    next();
  });

  router.get(RECOVER_PATH, (_request, response) => {
    sendPage(response, 'recover', { status: 'asking' });
  });

  router.post(RECOVER_PATH, ...form, async (request, response) => {
    const input = bodySchema.safeParse(request.body ?? {});
    if (!input.success) {
      const problem = fieldErrors(input.error);
      if (!wantsPage(request)) throw problem;
      response.status(400);
      sendPage(response, 'recover', { status: 'asking', problem: problem.toProblem() });
      return;
    }
    await requests.spend(request);
    // After the answer, so that its time tells nothing either.
    response.once('finish', () => void queue(input.data.email));
    response.status(202);
    if (wantsPage(request)) sendPage(response, 'recover', { status: 'sent', email: input.data.email });
    else response.json({ status: 'accepted' });
  });

  async function queue(email: string): Promise<void> {
    try {
      if ((await keystore.requestRecovery(email)) > 0) worker.wake();
    } catch (error) {
      log.error({ err: error }, 'A recovery mail could not be queued');
    }
  }

  router.get(KEY_PATH, async (request, response) => {
    await links.spend(request);
    const { token } = request.query;
    const key = typeof token === 'string' ? await keystore.findRecovery(token) : undefined;
    if (!key) {
      refuse(request, response, notRecovered('link_not_valid'));
      return;
    }
    const plan = plans.plan(key.planId)?.name ?? key.planId;
    if (wantsPage(request)) sendPage(response, 'recover-key', { token, lastFour: key.lastFour, plan });
    else response.json({ key_id: key.id, last_four: key.lastFour, plan: key.planId });
  });

  router.post(KEY_PATH, ...form, async (request, response) => {
    await links.spend(request);
    const { token } = (request.body ?? {}) as { token?: unknown };
    const old = typeof token === 'string' ? await keystore.findRecovery(token) : undefined;
    const recovered = old
      ? await keystore.recoverKey({ token: token as string, actor: 'recovery' })
      : 'link_not_valid';
    if (typeof recovered === 'string' || !old) {
      refuse(request, response, notRecovered(recovered as RotationRefusal | 'link_not_valid'));
      return;
    }
    log.info({ old: old.id, key: recovered.id }, 'Lost key replaced');
    const { plaintext, id: keyId, lastFour } = recovered;
    const shown = { plaintext, keyId, lastFour, replaces: { keyId: old.id, worksUntil: null } };
    await showKey(billing, request, response, shown, MANAGE_PATH);
  });

  router.all(KEY_PATH, onlyBy('GET', 'POST'));
  router.all(RECOVER_PATH, onlyBy('GET', 'POST'));
  return router;
}

function refuse(request: Request, response: Response, problem: ProblemError): void {
  if (!wantsPage(request)) throw problem;
  response.status(problem.toProblem().status);
  sendPage(response, 'recover', { status: 'link_not_valid', problem: problem.toProblem() });
}

/** A link outlives what happens to its key meanwhile. */
function notRecovered(refusal: RotationRefusal | 'link_not_valid'): ProblemError {
  switch (refusal) {
    case 'replaced':
    case 'revoked':
      return new ProblemError(
        'link_not_valid',
        'The key of this link was replaced or switched off meanwhile.',
      );
    case 'expired':
      return new ProblemError('link_not_valid', 'The time of this key has ended meanwhile.');
    default:
      return new ProblemError('link_not_valid', 'This link was used before, or is older than an hour.');
  }
}
