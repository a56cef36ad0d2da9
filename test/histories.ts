import fc from 'fast-check';
import { CHANGEABLE, MONTHLY, PLANS } from './convergence-plans.ts';

/**
 * One thing that happens in a buyer's life: what the buyer does, the seller does in Stripe's dashboard, a bank does, or
 * the operator does. `pick` chooses among what there is when the step comes (subscriptions, charges, keys).
 */
export type Step = { pick: number } & (
  | {
      do: 'buy';
      plan: string;
      pay: 'success' | 'renewal_fails' | 'bank_debit' | 'declined' | 'not';
      quantity: number;
      trial: boolean;
      /** Whether it is the same customer again, another customer with the same address, or somebody else. */
      who: 'same' | 'same_email' | 'new';
      through: 'stripe' | 'billing';
    }
  | { do: 'settle' | 'fail' }
  | { do: 'pay_open'; how: 'card' | 'bad_card' | 'elsewhere' | 'void' }
  | { do: 'change_plan'; plan: string; prorate: 'create_prorations' | 'none' | 'always_invoice' }
  | { do: 'change_quantity'; quantity: number }
  | { do: 'add_item'; plan: string }
  | { do: 'drop_item' }
  | { do: 'cancel'; when: 'at_end' | 'now' | 'in_days' }
  | { do: 'keep' }
  | { do: 'change_card'; card: 'good' | 'bad' }
  | { do: 'refund'; part: 'all' | 'half' | 'some' }
  | { do: 'refund_outcome'; outcome: 'settle' | 'fail' }
  | { do: 'dispute'; inquiry: boolean }
  | { do: 'close_dispute'; outcome: 'won' | 'lost' }
  | { do: 'pause' }
  | { do: 'resume'; onlyOnSuccess: boolean }
  | { do: 'pause_collection'; behavior: 'void' | 'mark_uncollectible' | 'keep_as_draft' | 'off' }
  | { do: 'end_trial' | 'extend_trial' | 'new_anchor' | 'change_email' | 'delete_customer' | 'expire' }
  | { do: 'visit' | 'claim' | 'revoke' | 'suspend' | 'lift' }
  | { do: 'rotate'; overlap: boolean }
  | { do: 'nothing' }
);

export type History = {
  /** The round it begins in. */
  starts: number;
  /** Steps a round. */
  pace: number;
  steps: Step[];
};

const pick = fc.nat(1000);
type Spec = Step extends infer S ? (S extends { pick: number } ? Omit<S, 'pick'> : never) : never;
const step = (spec: Spec) => pick.map((n) => [{ ...spec, pick: n } as Step]);
const from = <T extends object>(make: fc.Arbitrary<T>) =>
  fc.tuple(make, pick).map(([spec, n]) => [{ ...spec, pick: n } as unknown as Step]);
const inRow = (...parts: fc.Arbitrary<Step[]>[]) => fc.tuple(...parts).map((lists) => lists.flat());
const maybe = (part: fc.Arbitrary<Step[]>) => fc.oneof(part, part, step({ do: 'nothing' }));
const one = <T>(...values: T[]) => fc.constantFrom(...values);
const weighted = (weights: Record<string, number>) =>
  one(...Object.entries(weights).flatMap(([value, weight]) => Array<string>(weight).fill(value)));
const quantity = fc.integer({ min: 1, max: 5 });

const buys = (more: {
  plan?: fc.Arbitrary<string>;
  pay?: fc.Arbitrary<string>;
  who?: fc.Arbitrary<string>;
  trial?: fc.Arbitrary<boolean>;
}) =>
  from(
    fc.record({
      do: fc.constant('buy'),
      plan: more.plan ?? one(...Object.keys(PLANS), ...Object.keys(PLANS), 'lifetime', 'lifetime', 'foreign'),
      pay: more.pay ?? weighted({ success: 6, renewal_fails: 5, bank_debit: 2, not: 1 }),
      quantity,
      trial: more.trial ?? fc.nat(9).map((n) => n === 0),
      who: more.who ?? one('same', 'same_email', 'new'),
      through: one('stripe', 'stripe', 'billing'),
    }),
  );

const payOpen = from(
  fc.record({
    do: fc.constant('pay_open'),
    how: weighted({ card: 4, bad_card: 1, elsewhere: 2, void: 1 }),
  }),
);
const changePlan = from(
  fc.record({
    do: fc.constant('change_plan'),
    plan: one(...CHANGEABLE),
    prorate: one('create_prorations', 'none', 'always_invoice'),
  }),
);
const refund = from(fc.record({ do: fc.constant('refund'), part: one('all', 'all', 'half', 'some') }));
const refundAll = step({ do: 'refund', part: 'all' });
const refundOutcome = from(
  fc.record({ do: fc.constant('refund_outcome'), outcome: one('settle', 'settle', 'fail') }),
);
const dispute = from(fc.record({ do: fc.constant('dispute'), inquiry: fc.nat(3).map((n) => n === 0) }));
const rotate = from(fc.record({ do: fc.constant('rotate'), overlap: fc.boolean() }));
const closeDispute = from(fc.record({ do: fc.constant('close_dispute'), outcome: one('won', 'lost') }));
const cancel = from(
  fc.record({ do: fc.constant('cancel'), when: one('at_end', 'at_end', 'now', 'in_days') }),
);
const resume = from(fc.record({ do: fc.constant('resume'), onlyOnSuccess: fc.boolean() }));
const settlement = fc.oneof(step({ do: 'settle' }), step({ do: 'settle' }), step({ do: 'fail' }));
const nothing = step({ do: 'nothing' });
const badCard = step({ do: 'change_card', card: 'bad' });
const goodCard = step({ do: 'change_card', card: 'good' });

/** A stretch of a life: steps that belong together, and in between what the weeks bring. */
const episode = fc.oneof(
  { weight: 4, arbitrary: changePlan },
  {
    weight: 2,
    arbitrary: from(fc.record({ do: fc.constant('change_quantity'), quantity })),
  },
  {
    weight: 2,
    arbitrary: inRow(
      from(fc.record({ do: fc.constant('add_item'), plan: one(...MONTHLY, 'add_on') })),
      maybe(nothing),
      maybe(step({ do: 'drop_item' })),
    ),
  },
  { weight: 3, arbitrary: inRow(cancel, maybe(step({ do: 'keep' }))) },
  { weight: 5, arbitrary: inRow(badCard, nothing, maybe(payOpen), maybe(goodCard), maybe(payOpen)) },
  { weight: 6, arbitrary: inRow(refund, maybe(refund), maybe(refundOutcome)) },
  { weight: 5, arbitrary: inRow(dispute, maybe(nothing), maybe(closeDispute)) },
  { weight: 3, arbitrary: inRow(step({ do: 'pause' }), nothing, maybe(resume), maybe(payOpen)) },
  {
    weight: 1,
    arbitrary: from(
      fc.record({
        do: fc.constant('pause_collection'),
        behavior: one('void', 'mark_uncollectible', 'keep_as_draft', 'off'),
      }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.oneof(step({ do: 'end_trial' }), step({ do: 'extend_trial' }), step({ do: 'new_anchor' })),
  },
  { weight: 3, arbitrary: inRow(buys({}), settlement) },
  {
    weight: 2,
    arbitrary: inRow(buys({ pay: fc.constant('bank_debit') }), nothing, settlement, maybe(payOpen)),
  },
  {
    weight: 2,
    arbitrary: inRow(
      buys({ plan: fc.constant('tryout'), trial: fc.constant(true), who: one('same', 'same_email') }),
      maybe(badCard),
      nothing,
      maybe(payOpen),
    ),
  },
  // Given back before anybody may have seen that it was bought.
  {
    weight: 3,
    arbitrary: inRow(buys({ plan: one('lifetime', 'pro', 'basic') }), refundAll, maybe(refundOutcome)),
  },
  {
    weight: 2,
    arbitrary: inRow(
      buys({ plan: one('lifetime', 'weekly', 'basic'), pay: fc.constant('bank_debit') }),
      step({ do: 'settle' }),
      refundAll,
      nothing,
      maybe(refundOutcome),
    ),
  },
  {
    weight: 2,
    arbitrary: inRow(buys({ pay: fc.constant('bank_debit') }), step({ do: 'fail' }), nothing, payOpen),
  },
  { weight: 2, arbitrary: settlement },
  { weight: 2, arbitrary: payOpen },
  { weight: 3, arbitrary: step({ do: 'visit' }) },
  { weight: 3, arbitrary: step({ do: 'claim' }) },
  { weight: 2, arbitrary: rotate },
  { weight: 3, arbitrary: inRow(rotate, fc.oneof(refundAll, inRow(dispute, maybe(closeDispute)))) },
  { weight: 2, arbitrary: inRow(step({ do: 'revoke' }), maybe(rotate)) },
  { weight: 1, arbitrary: inRow(refundAll, nothing, rotate) },
  { weight: 2, arbitrary: inRow(step({ do: 'suspend' }), maybe(rotate), maybe(step({ do: 'lift' }))) },
  { weight: 1, arbitrary: step({ do: 'change_email' }) },
  { weight: 1, arbitrary: fc.oneof(step({ do: 'delete_customer' }), step({ do: 'expire' })) },
  { weight: 2, arbitrary: nothing },
);

const firstPurchase = fc.oneof(
  { weight: 6, arbitrary: buys({ who: fc.constant('new') }) },
  {
    weight: 2,
    arbitrary: buys({ who: fc.constant('new'), pay: fc.constant('renewal_fails') }),
  },
  {
    weight: 1,
    arbitrary: inRow(buys({ who: fc.constant('new'), pay: fc.constant('bank_debit') }), settlement),
  },
  {
    weight: 1,
    arbitrary: buys({ who: fc.constant('new'), plan: fc.constant('tryout'), trial: fc.constant(true) }),
  },
  { weight: 1, arbitrary: buys({ who: fc.constant('new'), pay: fc.constant('declined') }) },
);

export const history: fc.Arbitrary<History> = fc.record({
  starts: fc.nat(3),
  pace: fc.integer({ min: 1, max: 3 }),
  steps: fc
    .tuple(firstPurchase, fc.array(episode, { minLength: 1, maxLength: 6, size: 'max' }))
    .map(([first, then]) => [...first, ...then.flat()]),
});

/** A step in words, for reports. */
export function inWords({ pick: _pick, do: what, ...more }: Step): string {
  const details = Object.values(more).map(String);
  return [what.replaceAll('_', ' '), ...details].join(' ');
}
