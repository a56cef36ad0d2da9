import fc from 'fast-check';

// A property that fails prints its seed; FC_SEED=<seed> npm test tries the same inputs again.
if (process.env.FC_SEED) fc.configureGlobal({ seed: Number(process.env.FC_SEED) });
