// The engine of a server's page: the server reads the file and predicts.

async function makeEngine(facts) {
  return {
    async predict(file) {
      const started = performance.now();
      const headers = { Accept: "application/octet-stream" };
      const body = new FormData();
      body.append("image", file);
      let answer;
      try {
        answer = await fetch("predict", { method: "POST", body, headers });
      } catch {
        throw new ImageError("The server does not answer; it may have ended.");
      }
      if (!answer.ok) throw new ImageError((await answer.json()).error);
      const note = answer.headers.get("X-Note");
      const [height, width] = answer.headers.get("X-Shape").split(",").map(Number);
      const label = new Uint8Array(await answer.arrayBuffer());
      const seconds = (performance.now() - started) / 1000;
      let image;
      try {
        image = await readImage(file, facts.mostPixels);
      } catch {} // the server reads more formats than a browser shows
      const fits = image && image.width === width && image.height === height;
      return { image: fits ? image : null, label, width, height, seconds, note };
    },
  };
}
