// The engine of a page that opens from the disk: the network runs in a worker of the page, by
// onnxruntime-web's plain wasm on one thread; nothing is fetched.

const INEXACT =
  "This browser changes the pixels that pages read, so that they cannot tell readers apart; masks " +
  "may differ a little from those of the command.";

const OTHER =
  "Its values are of a wholly other range than those that the model was trained on: the mask is " +
  "likely wrong.";

// Decodes a block of the page: base64 of gzip.
async function unpack(id) {
  const block = document.getElementById(id);
  const text = atob(block.textContent);
  block.remove(); // it takes as much memory again
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

// Runs in the worker, behind onnxruntime-web's library.
function serveModel() {
  let session;
  onmessage = async ({ data }) => {
    try {
      if (data.model) {
        const glue = URL.createObjectURL(new Blob([data.glue], { type: "text/javascript" }));
        Object.assign(ort.env.wasm, { numThreads: 1, proxy: false, wasmBinary: data.wasm });
        ort.env.wasm.wasmPaths = { mjs: glue };
        const options = { executionProviders: ["wasm"], enableCpuMemArena: false };
        session = await ort.InferenceSession.create(new Uint8Array(data.model), options);
        postMessage({});
      } else {
        const image = new ort.Tensor("uint8", data.values, data.shape);
        const started = performance.now();
        const wanted = session.outputNames.filter((name) => name !== "probability");
        const { label, other_range: range } = await session.run({ image }, wanted);
        const seconds = (performance.now() - started) / 1000;
        postMessage({ label: new Uint8Array(label.data), seconds, isOther: !!range?.data[0] });
      }
    } catch (error) {
      postMessage({ error: String((error && error.message) || error) });
    }
  };
}

async function makeEngine(facts) {
  const [library, glue, wasm, model] = await Promise.all(["ort", "glue", "wasm", "model"].map(unpack));
  let worker;

  function ask(message, transfer = []) {
    return new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data));
      worker.onerror = (event) => reject(new Error(event.message || "the worker could not start"));
      worker.postMessage(message, transfer);
    });
  }

  async function start() {
    const code = [library, `\n(${serveModel})();`];
    const url = URL.createObjectURL(new Blob(code, { type: "text/javascript" }));
    worker = new Worker(url);
    await ask({ glue, wasm, model });
  }

  await start();
  return {
    note: readsExactly() ? "" : INEXACT,
    async predict(file) {
      const image = await readImage(file, facts.mostPixels);
      const values = readValues(image, facts.channels);
      const { width, height } = image;
      const shape = [1, height, width, facts.channels];
      try {
        const found = await ask({ values, shape }, [values.buffer]);
        return { image, width, height, ...found, note: found.isOther ? OTHER : "" };
      } catch (error) {
        worker.terminate(); // its memory may be full
        await start();
        throw new ImageError(
          `${file.name} (${width} x ${height} pixels) could not be predicted, likely for want of ` +
            `memory in this browser: try a smaller one. It said: ${error.message}`,
        );
      }
    },
  };
}
