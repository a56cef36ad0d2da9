import express, { type Request, type Response, type Router } from 'express';
import { type KeyFacts, monthEndMs } from '../keystore/keystore.ts';
import { AddressLimit } from '../shared/address-limit.ts';
import { onlyBy, parsedBody } from '../shared/methods.ts';
import { planOfKey } from '../shared/plans.ts';
import { presentedKey } from '../shared/presented-key.ts';
import { ProblemError } from '../shared/problems.ts';
import { answerStatus } from './answer-status.ts';
import type { Billing } from './context.ts';
import { allowFormsToStripe } from './forms-to-stripe.ts';
import { identifyBuyer, mayManage } from './identify-buyer.ts';
import { dayText, planText, sendPage, timeText, wantsPage } from './pages.ts';
import { SignIn } from './sign-in.ts';
import { standingOf } from './standing.ts';

/** How many wrong keys an address may send a minute. */
const WRONG_KEYS_A_MINUTE = 30;

/** Where a buyer signs in by key and manages the plan. */
export const MANAGE_PATH = '/billing/manage';

/** What the routes for a buyer who has a key share. */
export class ManageDesk {
  readonly billing: Billing;
  readonly signIn: SignIn;
  readonly #misses = new AddressLimit(WRONG_KEYS_A_MINUTE, 60);

  constructor(billing: Billing) {
    this.billing = billing;
    this.signIn = new SignIn(billing.config);
  }

  /** Whose key this is. @throws ProblemError when it is nobody's or may not manage anything */
  identify(request: Request, presented: string): Promise<KeyFacts> {
    return identifyBuyer(this.billing, request, presented, this.#misses);
  }

  /**
   * Who asks: by the key in a header, or else by the cookie of the manage page.
   *
   * @returns `undefined` for a browser that is not signed in: the manage page was answered with, to sign in there
   * @throws ProblemError `missing_key`, and why a key may not manage anything
   */
  async buyer(request: Request, response: Response): Promise<KeyFacts | undefined> {
    const presented = presentedKey(request);
    if (presented) return this.identify(request, presented);
    this.signIn.checkOrigin(request);
    const facts = await this.signedIn(request);
    if (facts) return facts;
    if (!wantsPage(request)) throw new ProblemError('missing_key');
    response.redirect(303, MANAGE_PATH);
    return undefined;
  }

  /** The key that a browser is signed in by, as it stands now. @throws ProblemError when it may no longer manage anything */
  async signedIn(request: Request): Promise<KeyFacts | undefined> {
    const keyId = this.signIn.keyId(request);
    const facts = keyId && (await this.billing.keystore.findKeyFacts(keyId));
    return facts ? mayManage(facts) : undefined;
  }

  /** The customer at Stripe behind a key; `null`: none. */
  async stripeCustomer({ customerId }: KeyFacts): Promise<string | null> {
    const customer = customerId === null ? undefined : await this.billing.keystore.findCustomer(customerId);
    return customer?.stripeCustomerId ?? null;
  }

  /** Answers with the manage page, and on it what went wrong. */
  async show(response: Response, facts: KeyFacts, problem?: ProblemError): Promise<void> {
    const about = await this.#aboutKey(facts);
    if (problem) answerStatus(response, problem);
    // Browsers tell the origin of a form only to whom they would tell its page; there is no secret in this address.
    response.set('Referrer-Policy', 'same-origin');
    sendPage(response, 'manage', {
      problem: problem?.toProblem(response.locals.requestId),
      address: MANAGE_PATH,
      ...about,
    });
  }

  /** Answers with the form to sign in by, and why that is needed (again). */
  showSignIn(response: Response, problem?: ProblemError): void {
    if (problem) answerStatus(response, problem);
    response.set('Referrer-Policy', 'same-origin');
    sendPage(response, 'sign-in', { problem: problem?.toProblem(), address: MANAGE_PATH });
  }

  async #aboutKey(facts: KeyFacts) {
    const { plans } = this.billing;
    const now = Date.now();
    const sold = plans.plan(facts.planId);
    const plan = sold && planOfKey(sold, facts);
    const standing = standingOf(facts, plan, now);
    const perMonth = plan?.quotaPer !== 'purchase';
    const used = perMonth ? facts.usedThisMonth : (facts.usedInAll ?? facts.usedThisMonth);
    const percent = plan?.quota ? Math.min(100, Math.floor((100 * used) / plan.quota)) : 0;
    return {
      standing,
      plan: plan ? planText(plan) : { name: facts.planId, price: '', limits: [], features: [] },
      quantity: facts.quantity,
      recurring: facts.subscription !== null,
      usage: {
        used: used.toLocaleString('en'),
        percent,
        share: used > 0 && percent === 0 ? 'Less than 1 %' : `${percent} %`,
        quota: plan?.quota?.toLocaleString('en') ?? null,
        perMonth,
        renewsOn: perMonth ? dayText(monthEndMs(now)) : null,
      },
      key: {
        id: facts.id,
        lastFour: facts.lastFour,
        created: dayText(facts.createdAt),
        replacedBy: facts.replacedBy,
        worksUntil: facts.replacedBy && facts.expiresAt ? timeText(facts.expiresAt) : null,
      },
      canRotate: facts.replacedBy === null && standing.state !== 'expired',
      hasPortal: (await this.stripeCustomer(facts)) !== null,
    };
  }
}

/**
 * `GET /billing/manage`: the plan of the buyer who is signed in, or the form to sign in with the key. `POST` signs in,
 * `POST /billing/manage/sign-out` out. The key goes in a form, never in an address.
 */
export function manageRoutes(desk: ManageDesk): Router {
  const router = express.Router();
  const { billing, signIn } = desk;
  const formsLeadToStripe = allowFormsToStripe(billing.config);

  router.get(MANAGE_PATH, formsLeadToStripe, async (request, response) => {
    try {
      const facts = await desk.signedIn(request);
      if (facts) await desk.show(response, facts);
      else desk.showSignIn(response);
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      signIn.end(response);
      desk.showSignIn(response, error);
    }
  });

  router.post(
    MANAGE_PATH,
    express.urlencoded({ extended: false, limit: '4kb' }),
    express.json({ limit: '4kb' }),
    parsedBody,
    async (request, response) => {
      try {
        signIn.checkOrigin(request);
        const { key } = (request.body ?? {}) as { key?: unknown };
        const presented = typeof key === 'string' ? key.trim() : '';
        if (!presented)
          throw new ProblemError('missing_key', 'There was no key in the form.', {
            remedy: 'Paste your whole key.',
          });
        const facts = await desk.identify(request, presented);
        signIn.start(response, facts.id);
        response.redirect(303, MANAGE_PATH);
      } catch (error) {
        if (!(error instanceof ProblemError) || !wantsPage(request)) throw error;
        desk.showSignIn(response, error);
      }
    },
  );

  router.post(`${MANAGE_PATH}/sign-out`, (request, response) => {
    signIn.checkOrigin(request);
    signIn.end(response);
    response.redirect(303, MANAGE_PATH);
  });
  router.all(`${MANAGE_PATH}/sign-out`, onlyBy('POST'));
  router.all(MANAGE_PATH, onlyBy('GET', 'POST'));
  return router;
}
