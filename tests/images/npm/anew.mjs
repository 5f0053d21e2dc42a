// Makes fetch open a connection for each request, so that a Service chooses a pod for each: node --import ./anew.mjs.

import { Agent, setGlobalDispatcher } from 'undici';

setGlobalDispatcher(new Agent({ pipelining: 0 }));
