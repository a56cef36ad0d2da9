import express, { type Request, type Response, type Router } from 'express';
import { z } from 'zod';
import type { BegunTrial } from '../keystore/keystore.ts';
import { AddressLimit } from '../shared/address-limit.ts';
import { mailbox } from '../shared/mailbox.ts';
import { onlyBy } from '../shared/methods.ts';
import type { LicenceTerms } from '../shared/plan.ts';
import { ProblemError } from '../shared/problems.ts';
import { RateLimit } from '../shared/rate-limit.ts';
import { entitlementJson, timeJson } from './answers.ts';
import type { Licensing } from './context.ts';
import { licenceOf } from './licence.ts';
import { deviceSchema, jsonBody, note, readBody } from './question.ts';

const DAY_MS = 86_400_000;
/** Trials an address may ask for in an hour: each writes, and may send a mail. */
const TRIALS_AN_HOUR = 20;
/** Codes it may type in: as many as these trials allow. */
const CODES_AN_HOUR = 100;
/** Mails with a code to one mailbox in an hour. */
const MAILS_AN_HOUR = 3;

const askSchema = z.strictObject({
  plan: z.string({ error: 'is required: the id of a plan' }).min(1).max(64),
  device: deviceSchema,
  email: z.email('is not an e-mail address').max(254).optional(),
});
const confirmSchema = z.strictObject({
  trial_id: z.string().regex(/^tri_[0-9A-Za-z]{20}$/, 'is the trial_id that you were given'),
  code: z.string({ error: 'is the code that came by e-mail' }).min(1).max(40),
  device: deviceSchema,
});

/**
 * `POST /licences/trial {plan, device, email?}`: a trial without a card, once for a person and once for a device. Where e-mail
 * is set up, an address has to be given and shown to be one's own, with the code that is sent to it: `{trial_id, code, device}`.
 */
export function trialRoutes(licensing: Licensing): Router {
  const router = express.Router();
  const asked = new AddressLimit(TRIALS_AN_HOUR, 3600);
  const typedIn = new AddressLimit(CODES_AN_HOUR, 3600);
  const mails = new RateLimit(MAILS_AN_HOUR, 3600, 'Too many codes were sent to this e-mail address.');

  router.post('/licences/trial', ...jsonBody, async (request, response) => {
    if (request.body?.trial_id !== undefined) {
      await typedIn.spend(request);
      await confirm(licensing, request, response);
      return;
    }
    await asked.spend(request);
    if (licensing.config.mail === null) await begin(licensing, request, response);
    else await sendCode(licensing, mails, request, response);
  });
  router.all('/licences/trial', onlyBy('POST'));
  return router;
}

async function sendCode(
  licensing: Licensing,
  mails: RateLimit,
  request: Request,
  response: Response,
): Promise<void> {
  const { plan, device, email } = readBody(askSchema, request);
  termsOf(licensing, plan);
  if (email === undefined) {
    throw new ProblemError('invalid_request', 'email is required: a code is sent to it', {
      errors: [{ field: 'email', message: 'is required: a code is sent to it' }],
    });
  }
  await mails.spend(mailbox(email));
  const trial = await licensing.keystore.requestTrial({
    mode: await licensing.mode(),
    planId: plan,
    deviceId: device.id,
    email,
  });
  if (trial === 'already_used') throw new ProblemError('trial_already_used');
  response.status(202).json({
    trial_id: trial.id,
    status: 'verify_email',
    detail: `A code was sent to ${email}.`,
    expires_at: timeJson(trial.expiresAt),
  });
}

async function confirm(licensing: Licensing, request: Request, response: Response): Promise<void> {
  const { trial_id: trialId, code, device } = readBody(confirmSchema, request);
  const trial = await licensing.keystore.findTrial(trialId);
  if (!trial) throw codeIsOver();
  const begun = await licensing.keystore.confirmTrial({
    ...(await beginning(licensing, trial.planId, device)),
    trialId,
    code,
  });
  if (begun === 'code_not_valid') throw new ProblemError('code_not_valid');
  if (begun === 'not_found') throw codeIsOver();
  await answer(licensing, request, response, begun);
}

async function begin(licensing: Licensing, request: Request, response: Response): Promise<void> {
  const { plan, device } = readBody(askSchema, request);
  const begun = await licensing.keystore.beginTrial({
    ...(await beginning(licensing, plan, device)),
    planId: plan,
  });
  await answer(licensing, request, response, begun);
}

async function beginning(licensing: Licensing, planId: string, device: z.output<typeof deviceSchema>) {
  const { terms, trialDays } = termsOf(licensing, planId);
  return {
    mode: await licensing.mode(),
    keyPrefix: licensing.config.keyPrefix,
    device: { id: device.id, name: device.name ?? null },
    places: terms,
    trialMs: trialDays * DAY_MS,
    actor: 'trial',
  };
}

async function answer(
  licensing: Licensing,
  request: Request,
  response: Response,
  begun: BegunTrial | 'already_used',
): Promise<void> {
  if (begun === 'already_used') throw new ProblemError('trial_already_used');
  const { keystore, plans, tokens, log } = licensing;
  const { plaintext, keyId, device, devices, endsAt } = begun;
  log.info({ key: keyId }, 'Trial began');
  const facts = await keystore.findKeyFacts(keyId);
  if (!facts) throw new Error(`The key ${keyId} of a trial is gone`);
  await note(licensing, request, 'trial', facts, device.id, 'ok');
  const licence = licenceOf(facts, plans, licensing.now());
  response.status(201).json({
    key: plaintext,
    ends_at: timeJson(endsAt),
    ...entitlementJson(licence, await tokens.issue(licence, device, licensing.now()), device, devices),
  });
}

/** What a trial of a plan is. @throws ProblemError `unknown_plan`, `no_trial` */
function termsOf({ plans }: Licensing, planId: string): { terms: LicenceTerms; trialDays: number } {
  const plan = plans.plan(planId);
  const withTrial = plans.plans.filter((each) => !each.hidden && each.licence?.trialDays);
  if (!plan || plan.hidden) {
    throw new ProblemError('unknown_plan', `There is no plan "${planId}".`, {
      errors: [{ field: 'plan', message: `must be one of: ${withTrial.map((each) => each.id).join(', ')}` }],
    });
  }
  const { licence: terms } = plan;
  if (!terms?.trialDays) throw new ProblemError('no_trial', `The plan ${plan.name} has no trial.`);
  return { terms, trialDays: terms.trialDays };
}

function codeIsOver(): ProblemError {
  return new ProblemError(
    'link_not_valid',
    'This code is over: its time is up, or too many wrong ones were typed in.',
    {
      remedy: 'Ask for a trial again.',
    },
  );
}
