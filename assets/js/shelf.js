// What is too large for localStorage, in the browser's own database: one value under each name.

const SHELF = "atelier";
const STORE = "shelf";

let opened = null;

function open() {
  opened ??= new Promise((resolve, reject) => {
    const asked = indexedDB.open(SHELF, 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE);
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
  return opened;
}

async function ask(mode, question) {
  const shelf = await open();
  return new Promise((resolve, reject) => {
    const turn = shelf.transaction(STORE, mode);
    const asked = question(turn.objectStore(STORE));
    turn.oncomplete = () => resolve(asked.result);
    turn.onerror = turn.onabort = () => reject(turn.error);
  });
}

export function take(name) {
  return ask("readonly", (store) => store.get(name));
}

// Puts values away one after the other, as `value()` is when its turn comes: what came meanwhile is put away once.
export class Place {
  constructor(name, value) {
    Object.assign(this, { name, value, busy: null, again: false });
  }

  // Whether the browser kept it.
  put() {
    if (this.busy) this.again = true;
    else this.busy = this.#write().finally(() => (this.busy = null));
    return this.busy;
  }

  async #write() {
    try {
      do {
        this.again = false;
        await ask("readwrite", (store) => store.put(this.value(), this.name));
      } while (this.again);
      return true;
    } catch {
      return false;
    }
  }
}
