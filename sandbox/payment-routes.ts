import { change } from './events.ts';
import { inRange, mergeMetadata, metadata, range, string, unsupported } from './params.ts';
import { listRoute, type Route, route } from './routes.ts';

export const paymentRoutes: Route[] = [
  listRoute(
    '/v1/payment_intents',
    { created: range(), customer: string(), ...unsupported('customer_account') },
    (world, params) =>
      world.store.paymentIntents
        .all()
        .filter(
          (intent) =>
            (!params.created || inRange(intent.created, params.created)) &&
            (params.customer === undefined || intent.customer === params.customer),
        ),
  ),
  route('GET', '/v1/payment_intents/:id', unsupported('client_secret'), (world, _params, id) =>
    world.store.paymentIntents.get(id),
  ),
  route(
    'POST',
    '/v1/payment_intents/:id',
    {
      metadata: metadata(),
      description: string(),
      ...unsupported(
        'allowed_payment_method_types',
        'amount',
        'amount_details',
        'application_fee_amount',
        'capture_method',
        'currency',
        'customer',
        'customer_account',
        'excluded_payment_method_types',
        'hooks',
        'payment_details',
        'payment_method',
        'payment_method_configuration',
        'payment_method_data',
        'payment_method_options',
        'receipt_email',
        'setup_future_usage',
        'shipping',
        'statement_descriptor',
        'statement_descriptor_suffix',
        'transfer_data',
        'transfer_group',
      ),
    },
    (world, params, id) => {
      const intent = world.store.paymentIntents.get(id);
      intent.metadata = mergeMetadata(intent.metadata, params.metadata);
      intent.description = params.description ?? intent.description;
      return intent;
    },
  ),
  listRoute(
    '/v1/charges',
    { created: range(), customer: string(), payment_intent: string(), ...unsupported('transfer_group') },
    (world, params) =>
      world.store.charges
        .all()
        .filter(
          (charge) =>
            (!params.created || inRange(charge.created, params.created)) &&
            (params.customer === undefined || charge.customer === params.customer) &&
            (params.payment_intent === undefined || charge.payment_intent === params.payment_intent),
        ),
  ),
  route('GET', '/v1/charges/:id', {}, (world, _params, id) => world.store.charges.get(id)),
  route(
    'POST',
    '/v1/charges/:id',
    {
      metadata: metadata(),
      description: string(),
      ...unsupported('customer', 'fraud_details', 'receipt_email', 'shipping', 'transfer_group'),
    },
    (world, params, id) => {
      const charge = world.store.charges.get(id);
      change(world, 'charge.updated', charge, {
        metadata: mergeMetadata(charge.metadata, params.metadata),
        description: params.description ?? charge.description,
      });
      return charge;
    },
  ),
];
