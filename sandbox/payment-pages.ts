import { paySession } from './checkout-payment.ts';
import { invalid } from './errors.ts';
import { integer, required, string } from './params.ts';
import { behaviourOf } from './payment-methods.ts';
import { type Route, route } from './routes.ts';

/**
 * What the hosted checkout page itself asks of Stripe, and Stripe does not describe: the fixtures of the Stripe CLI
 * pay with it. Both answer the session.
 */
export const paymentPageRoutes: Route[] = [
  route('GET', '/v1/payment_pages/:id', {}, (world, _params, id) => world.store.sessions.get(id)),
  route(
    'POST',
    '/v1/payment_pages/:id/confirm',
    { payment_method: required(string()), expected_amount: integer(0) },
    (world, params, id) => {
      const session = world.store.sessions.get(id);
      const method = world.store.paymentMethods.named(params.payment_method, 'payment_method');
      if (params.expected_amount !== undefined && params.expected_amount !== session.amount_total) {
        throw invalid(
          `The amount of this Checkout Session is ${session.amount_total}, not ${params.expected_amount}.`,
          'expected_amount',
        );
      }
      paySession(world, session, behaviourOf(method), method.billing_details.email, method);
      return session;
    },
  ),
];
