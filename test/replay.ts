import fc from 'fast-check';
import { beforeEach } from 'vitest';
import { needsPostgres } from './services.ts';

// A property that fails prints its seed; FC_SEED=<seed> npm test tries the same inputs again.
if (process.env.FC_SEED) fc.configureGlobal({ seed: Number(process.env.FC_SEED) });

// The same tests on another keystore; see vitest.config.ts.
if (process.env.TEST_KEYSTORE === 'postgres') beforeEach(needsPostgres);
