import {
  type Features,
  type FeatureValue,
  features,
  featureValue,
  flag,
  list,
  type Shape,
  shape,
  text,
  textOrNull,
} from './shape.ts';

/**
 * A plan that has a feature which the present one lacks, or has less of. `value` is the feature's there; `price` is as the
 * seller writes it, such as `$19 a month`.
 */
export type PlanOffer = { id: string; name: string; value: FeatureValue; price: string | null };

/** A feature that is locked, and the plans that have it. */
export type LockedFeature = { feature: string; plans: PlanOffer[] };

/** What a plan includes, and for all else which plan has it. */
export type Catalogue = {
  /** What the seller's keys begin with. */
  product: string;
  plan: { id: string; name: string } | null;
  /** Whether this is what somebody without a licence has. */
  demo: boolean;
  features: Features;
  locked: LockedFeature[];
};

/** @throws ShapeError */
export function readCatalogue(value: unknown): Catalogue {
  const said = shape(value, 'the features');
  return {
    product: text(said, 'product'),
    plan: said.plan === null ? null : planOf(shape(said.plan, 'plan')),
    demo: flag(said, 'demo'),
    features: features(said, 'features'),
    locked: list(said, 'locked').map((each) => lockedOf(shape(each, 'locked'))),
  };
}

function planOf(plan: Shape): { id: string; name: string } {
  return { id: text(plan, 'id'), name: text(plan, 'name') };
}

function lockedOf(locked: Shape): LockedFeature {
  return {
    feature: text(locked, 'feature'),
    plans: list(locked, 'plans').map((each) => {
      const plan = shape(each, 'plans');
      return { ...planOf(plan), value: featureValue(plan.value, 'value'), price: textOrNull(plan, 'price') };
    }),
  };
}
