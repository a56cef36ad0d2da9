import Stripe from 'stripe';
import { PLANS } from './convergence-plans.ts';
import type { ConvergenceWorld } from './convergence-world.ts';
import { type History, inWords, type Step } from './histories.ts';

const DAY = 86_400;
const LONG_OVERLAP_MS = 20 * 365 * DAY * 1000;

/** A buyer's life as it is lived: each step is done at the sandbox, at billing, or by the operator. */
export class Life {
  readonly name: string;
  /** What happened, a line each. */
  readonly log: string[] = [];
  readonly sessions: string[] = [];
  /** Keys that the operator switched off. */
  readonly switchedOff = new Set<string>();
  /** First keys of chains that the operator suspended. */
  readonly suspended = new Set<string>();
  /** Which key follows which. */
  readonly successors = new Map<string, string>();
  /** How often the key of a session was shown. */
  readonly claims = new Map<string, number>();
  readonly #world: ConvergenceWorld;
  readonly #steps: Step[];
  #email: string;
  #triedOut = false;
  #customers = new Set<string>();

  constructor(world: ConvergenceWorld, index: number, history: History) {
    this.#world = world;
    this.#steps = [...history.steps];
    this.name = `buyer ${index}`;
    this.#email = `buyer${index}@example.com`;
  }

  get over(): boolean {
    return this.#steps.length === 0;
  }

  /** Does the next step. */
  async go(): Promise<void> {
    const step = this.#steps.shift();
    if (!step || step.do === 'nothing') return;
    const at = new Date(this.#world.nowMs()).toISOString().slice(0, 19);
    let came: string;
    try {
      came = (await this.#do(step)) ?? 'nothing to do it with';
    } catch (error) {
      if (!(error instanceof Stripe.errors.StripeError) || (error.statusCode ?? 500) >= 500) throw error;
      came = `refused: ${error.message}`;
    }
    this.log.push(`${at}  ${inWords(step)}: ${came}`);
  }

  async #do(step: Step): Promise<string | undefined> {
    const { stripe, control, keystore, prices } = this.#world;
    switch (step.do) {
      case 'buy':
        return this.#buy(step);
      case 'settle':
      case 'fail': {
        const intent = this.#one(
          (
            await this.#ofCustomers((customer) => stripe.paymentIntents.list({ customer, limit: 100 }))
          ).filter(({ status }) => status === 'processing'),
          step,
        );
        if (!intent) return undefined;
        await control(`/payment_intents/${intent.id}/${step.do}`);
        return intent.id;
      }
      case 'pay_open': {
        // Stripe takes no other payment for an invoice while one is on its way.
        const [open, intents] = await Promise.all([
          this.#ofCustomers((customer) => stripe.invoices.list({ customer, status: 'open', limit: 100 })),
          this.#ofCustomers((customer) => stripe.paymentIntents.list({ customer, limit: 100 })),
        ]);
        const underWay = await Promise.all(
          intents
            .filter(({ status }) => status === 'processing')
            .map(({ id }) =>
              stripe.invoicePayments.list({ payment: { type: 'payment_intent', payment_intent: id } }),
            ),
        );
        const waiting = new Set(underWay.flatMap(({ data }) => data.map(({ invoice }) => invoice)));
        const invoice = this.#one(
          open.filter(({ id }) => !waiting.has(id)),
          step,
        );
        if (!invoice) return undefined;
        if (step.how === 'void') await stripe.invoices.voidInvoice(invoice.id);
        else if (step.how === 'elsewhere') await stripe.invoices.pay(invoice.id, { paid_out_of_band: true });
        else {
          const card = step.how === 'card' ? 'pm_card_visa' : 'pm_card_chargeCustomerFail';
          const method = await stripe.paymentMethods.attach(card, { customer: invoice.customer as string });
          await stripe.invoices.pay(invoice.id, { payment_method: method.id });
        }
        return invoice.id;
      }
      case 'change_plan':
        return this.#update(step, (subscription) =>
          this.#wouldBecomeOurs(subscription)
            ? null
            : {
                items: [{ id: subscription.items.data[0]!.id, price: prices[step.plan]! }],
                proration_behavior: step.prorate,
              },
        );
      case 'change_quantity':
        return this.#update(step, ({ items }) => ({
          items: [{ id: items.data[0]!.id, quantity: step.quantity }],
        }));
      case 'add_item':
        return this.#update(step, (subscription) =>
          this.#wouldBecomeOurs(subscription)
            ? null
            : { items: [{ price: prices[step.plan]!, quantity: 2 }] },
        );
      case 'drop_item':
        // What has only prices of nothing of ours left keeps its plan, if it was seen while it had one.
        return this.#update(step, ({ items }) => {
          const rest = items.data.slice(0, -1);
          if (!rest.some(({ price }) => this.#world.isOurs(price.id))) return null;
          return { items: [{ id: items.data.at(-1)!.id, deleted: true }] };
        });
      case 'cancel': {
        if (step.when === 'at_end') return this.#update(step, () => ({ cancel_at_period_end: true }));
        const inDays = Math.floor(this.#world.nowMs() / 1000) + (1 + (step.pick % 40)) * DAY;
        if (step.when === 'in_days') return this.#update(step, () => ({ cancel_at: inDays }));
        const subscription = this.#one(await this.#subscriptions(), step);
        if (!subscription) return undefined;
        await stripe.subscriptions.cancel(subscription.id);
        return subscription.id;
      }
      case 'keep':
        return this.#update(step, () => ({ cancel_at_period_end: false }));
      case 'change_card':
        return this.#update(step, async ({ customer }) => {
          const card = step.card === 'good' ? 'pm_card_visa' : 'pm_card_chargeCustomerFail';
          const method = await stripe.paymentMethods.attach(card, { customer: customer as string });
          return { default_payment_method: method.id };
        });
      case 'refund': {
        const charge = this.#one(await this.#charges(), step);
        if (!charge) return undefined;
        const left = charge.amount - charge.amount_refunded;
        const amount = { all: left, half: Math.ceil(charge.amount / 2), some: 1 + (step.pick % 200) }[
          step.part
        ];
        const refund = await stripe.refunds.create({ charge: charge.id, amount: Math.min(amount, left) });
        if (refund.status === 'succeeded') this.#world.onceSucceeded.add(refund.id);
        return `${refund.id} of ${charge.id}, ${refund.amount} of ${charge.amount}, ${refund.status}`;
      }
      case 'refund_outcome': {
        const refunds = (
          await Promise.all(
            (await this.#charges()).map(({ id }) => stripe.refunds.list({ charge: id, limit: 100 })),
          )
        ).flatMap(({ data }) => data);
        const fits = refunds.filter(
          ({ status }) => status === 'pending' || (step.outcome === 'fail' && status === 'succeeded'),
        );
        const refund = this.#one(fits, step);
        if (!refund) return undefined;
        await control(`/refunds/${refund.id}/${step.outcome}`);
        if (step.outcome === 'settle') this.#world.onceSucceeded.add(refund.id);
        return refund.id;
      }
      case 'dispute': {
        const charge = this.#one(
          (await this.#charges()).filter(({ disputed }) => !disputed),
          step,
        );
        if (!charge) return undefined;
        const dispute = await control('/disputes', {
          charge: charge.id,
          status: step.inquiry ? 'warning_needs_response' : 'needs_response',
        });
        return `${dispute.id} about ${charge.id}`;
      }
      case 'close_dispute': {
        const disputes = (
          await Promise.all(
            (
              await this.#charges()
            )
              .filter(({ disputed }) => disputed)
              .map(({ id }) => stripe.disputes.list({ charge: id, limit: 100 })),
          )
        ).flatMap(({ data }) => data);
        const dispute = this.#one(
          disputes.filter(({ status }) => status.endsWith('needs_response')),
          step,
        );
        if (!dispute) return undefined;
        const outcome = dispute.status.startsWith('warning') ? 'warning_closed' : step.outcome;
        await control(`/disputes/${dispute.id}/close`, { outcome });
        return `${dispute.id} ${outcome}`;
      }
      case 'pause': {
        const subscription = this.#one(await this.#subscriptions(), step);
        if (!subscription) return undefined;
        await stripe.rawRequest('POST', `/v1/subscriptions/${subscription.id}/pause`, {
          type: 'subscription',
        });
        return subscription.id;
      }
      case 'resume': {
        const subscription = this.#one(
          (await this.#subscriptions()).filter(({ status }) => status === 'paused'),
          step,
        );
        if (!subscription) return undefined;
        await stripe.rawRequest('POST', `/v1/subscriptions/${subscription.id}/resume`, {
          payment_behavior: step.onlyOnSuccess ? 'resume_on_payment_success' : 'resume_on_payment_attempt',
        });
        return subscription.id;
      }
      case 'pause_collection': {
        const { behavior } = step;
        return this.#update(step, () => ({ pause_collection: behavior === 'off' ? '' : { behavior } }));
      }
      case 'end_trial':
        return this.#update(step, ({ status }) => (status === 'trialing' ? { trial_end: 'now' } : null));
      case 'extend_trial':
        return this.#update(step, ({ status, trial_end }) =>
          status === 'trialing' ? { trial_end: trial_end! + (1 + (step.pick % 9)) * DAY } : null,
        );
      case 'new_anchor':
        return this.#update(step, () => ({ billing_cycle_anchor: 'now' as never }));
      case 'change_email': {
        const customer = this.#one([...this.#customers], step);
        // Who has had a trial is told by the address: the model sees only the last one.
        if (!customer || this.#triedOut) return undefined;
        this.#email = `moved${step.pick}.${this.#email}`;
        await stripe.customers.update(customer, { email: this.#email });
        return this.#email;
      }
      case 'delete_customer': {
        const customer = this.#one([...this.#customers], step);
        if (!customer || this.#triedOut) return undefined;
        await stripe.customers.del(customer);
        this.#customers.delete(customer);
        return customer;
      }
      case 'expire': {
        const session = this.#one(this.sessions, step);
        return session && (await stripe.checkout.sessions.expire(session)).status!;
      }
      case 'visit': {
        const session = this.#one(this.sessions, step);
        return session && this.#world.askBilling(step.pick, `/billing/success?session_id=${session}`);
      }
      case 'claim':
        return this.#claim(step);
      case 'rotate': {
        const key = await this.#key(step);
        if (!key) return undefined;
        const overlapMs = step.overlap ? LONG_OVERLAP_MS : 0;
        const made = await keystore.rotateKey({ id: key, overlapMs, actor: 'operator' });
        if (typeof made === 'string') return `${key}: ${made}`;
        if (this.switchedOff.has(key)) throw new Error(`${this.name}: the revoked key ${key} was rotated`);
        this.successors.set(key, made.id);
        if (!step.overlap) this.switchedOff.add(key);
        return `${key} by ${made.id}`;
      }
      case 'revoke': {
        const key = await this.#key(step);
        if (!key) return undefined;
        const outcome = await keystore.revokeKey({ id: key, reason: 'operator', actor: 'operator' });
        this.switchedOff.add(key);
        return `${key} ${outcome}`;
      }
      case 'suspend':
      case 'lift': {
        const key = await this.#key(step);
        if (!key) return undefined;
        const { rootId } = (await keystore.findKey(key))!;
        if (step.do === 'suspend') {
          const outcome = await keystore.suspendKey({ id: key, note: null, actor: 'operator' });
          if (outcome === 'suspended') this.suspended.add(rootId);
          return `${key} ${outcome}`;
        }
        const outcome = await keystore.resumeKey({ id: key, actor: 'operator' });
        if (outcome === 'resumed') this.suspended.delete(rootId);
        return `${key} ${outcome}`;
      }
      case 'nothing':
        return undefined;
    }
  }

  async #buy(step: Extract<Step, { do: 'buy' }>): Promise<string> {
    const { stripe, control, prices } = this.#world;
    const terms = PLANS[step.plan];
    if (terms?.trial || step.trial) {
      // Of two trials of one second, either may be seen first.
      if (this.#triedOut) await this.#world.advance(1);
      this.#triedOut = true;
    }
    if (step.who === 'new' && this.sessions.length > 0)
      this.#email = `${this.sessions.length}.${this.#email}`;
    const customer = step.who === 'same' ? this.#one([...this.#customers], step) : undefined;
    const who = customer ? { customer } : { customer_email: this.#email };
    let sessionId: string | undefined;
    if (step.through === 'billing' && !customer && terms) {
      sessionId = await this.#world.openCheckout(step.pick, { plan: step.plan, customer_email: this.#email });
    }
    const once = terms?.per === 'once';
    const trialDays = step.trial && !once ? (terms?.trial?.days ?? 1 + (step.pick % 40)) : undefined;
    sessionId ??= (
      await stripe.checkout.sessions.create({
        ...who,
        mode: once ? 'payment' : 'subscription',
        line_items: [{ price: prices[step.plan]!, quantity: step.quantity }],
        success_url: 'https://shop.example.com/done?session_id={CHECKOUT_SESSION_ID}',
        ...(once && !customer ? { customer_creation: 'always' as const } : {}),
        ...(trialDays ? { subscription_data: { trial_period_days: trialDays } } : {}),
      })
    ).id;
    this.sessions.push(sessionId);
    if (step.pay === 'not') return `opened ${sessionId}`;
    try {
      if (step.pay === 'declined') {
        await control(`/checkout/sessions/${sessionId}/pay`, { card: 'declined', email: this.#email }, [402]);
        if (step.pick % 2 === 0) return `declined ${sessionId}`;
      }
      const card = step.pay === 'declined' ? 'success' : step.pay;
      await control(`/checkout/sessions/${sessionId}/pay`, { card, email: this.#email });
    } finally {
      const session = await stripe.checkout.sessions.retrieve(sessionId);
      if (session.customer) this.#customers.add(session.customer as string);
    }
    return sessionId;
  }

  async #claim(step: Step): Promise<string | undefined> {
    const session = this.#one(this.sessions, step);
    if (!session) return undefined;
    const answer = await this.#world.askBilling(step.pick, '/billing/success/claim', { session_id: session });
    const plaintext = /"(tg_test_[0-9A-Za-z]+)"/.exec(answer)?.[1];
    if (!plaintext) return answer.slice(0, 60);
    this.claims.set(session, (this.claims.get(session) ?? 0) + 1);
    const { keystore } = this.#world;
    const [facts, purchase] = [
      await keystore.authenticateKey(plaintext),
      await keystore.findPurchase(session),
    ];
    if (!facts || facts.rootId !== purchase?.keyId)
      throw new Error(`${this.name}: the key shown for ${session} is not the key it bought`);
    return `${facts.id} of ${session}`;
  }

  /** The key in force of one of the sessions. */
  async #key(step: Step): Promise<string | undefined> {
    const session = this.#one(this.sessions, step);
    let key = session && (await this.#world.keystore.findPurchase(session))?.keyId;
    while (key && this.successors.has(key)) key = this.successors.get(key);
    return key ?? undefined;
  }

  async #update(
    step: Step,
    make: (
      subscription: Stripe.Subscription,
    ) => Stripe.SubscriptionUpdateParams | null | Promise<Stripe.SubscriptionUpdateParams>,
  ): Promise<string | undefined> {
    const subscription = this.#one(await this.#subscriptions(), step);
    const change = subscription && (await make(subscription));
    if (!change) return undefined;
    await this.#world.stripe.subscriptions.update(subscription.id, change);
    return subscription.id;
  }

  /** Whether a trial of something else would come to a plan: what counts as whose first trial then depends on when it was looked at. */
  #wouldBecomeOurs({ trial_start, items }: Stripe.Subscription): boolean {
    return trial_start !== null && !items.data.some(({ price }) => this.#world.isOurs(price.id));
  }

  /** Those that have not ended. */
  async #subscriptions(): Promise<Stripe.Subscription[]> {
    const all = await this.#ofCustomers((customer) =>
      this.#world.stripe.subscriptions.list({ customer, limit: 100 }),
    );
    return all.filter(({ status }) => status !== 'canceled' && status !== 'incomplete_expired');
  }

  async #charges(): Promise<Stripe.Charge[]> {
    const all = await this.#ofCustomers((customer) =>
      this.#world.stripe.charges.list({ customer, limit: 100 }),
    );
    return all.filter(({ status }) => status === 'succeeded');
  }

  async #ofCustomers<T>(list: (customer: string) => Promise<{ data: T[] }>): Promise<T[]> {
    return (await Promise.all([...this.#customers].map(list))).flatMap(({ data }) => data);
  }

  #one<T>(all: readonly T[], step: Step): T | undefined {
    return all[step.pick % all.length];
  }
}
