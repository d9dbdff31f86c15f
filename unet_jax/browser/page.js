// The page: takes an image, asks its engine for the class of every pixel, and shows them.

const facts = JSON.parse(document.getElementById("facts").textContent);
const at = (id) => document.getElementById(id);
const MANY = 24; // classes, of which only those in the image are listed
let engine, shown;

function say(text, isError = false) {
  at("status").textContent = text;
  at("status").className = isError ? "error" : "";
}

// Shows that work is under way, with the seconds since it began.
async function during(text, work) {
  const started = performance.now();
  const tick = () => at("clock").textContent = ` ${Math.round((performance.now() - started) / 1000)} s`;
  say(text);
  at("working").hidden = false;
  at("file").disabled = true;
  tick();
  const timer = setInterval(tick, 500);
  try {
    return await work();
  } finally {
    clearInterval(timer);
    at("working").hidden = true;
    at("file").disabled = false;
  }
}

async function take(files) {
  const [file] = files;
  if (!file || !engine || at("file").disabled) return;
  at("result").hidden = true;
  try {
    const found = await during(`Predicting ${file.name} ...`, () => engine.predict(file));
    show({ ...found, name: file.name });
    const told = [`${file.name}: ${found.width} x ${found.height} pixels in ${found.seconds.toFixed(2)} s.`];
    if (files.length > 1) told.push(`The first of ${files.length} files; drop one at a time.`);
    if (found.note) told.push(found.note);
    say(told.join(" "));
  } catch (error) {
    if (!(error instanceof ImageError)) console.error(error);
    say(error.message, true);
  }
}

function show(found) {
  shown = found;
  const { width, height, label, image } = found;
  for (const id of ["image", "mask"]) Object.assign(at(id), { width, height });
  at("stage").style.maxWidth = `${Math.ceil((80 * width) / height)}vh`; // all of it is seen at once
  if (image) at("image").getContext("2d").drawImage(image.canvas, 0, 0);
  at("mask").getContext("2d").putImageData(colour(label, width, height), 0, 0);
  const counts = new Array(facts.classes.length).fill(0);
  for (const id of label) counts[id] += 1;
  const all = facts.classes.map((_, id) => id);
  const told = all.length > MANY ? all.filter((id) => counts[id]) : all;
  at("classes").tBodies[0].replaceChildren(...told.map((id) => row(id, counts)));
  const shares = told.map((id) => `${facts.classes[id].name} ${percent(counts[id])}`);
  at("stage").setAttribute("aria-label", `${found.name} with its mask: ${shares.join(", ")}`);
  at("result").hidden = false;
}

function colour(label, width, height) {
  const drawn = new ImageData(width, height);
  const pixels = new Uint32Array(drawn.data.buffer);
  const packed = new Uint8Array(facts.classes.flatMap(({ colour }) => [...colour, 255]));
  const values = new Uint32Array(packed.buffer);
  for (let i = 0; i < label.length; i++) pixels[i] = values[label[i]];
  return drawn;
}

const percent = (count) => `${((100 * count) / shown.label.length).toFixed(1)}%`;

function row(id, counts) {
  const { name, colour } = facts.classes[id];
  const cells = [name, `${id}`, counts[id].toLocaleString("en"), percent(counts[id])];
  const line = document.createElement("tr");
  cells.forEach((text) => (line.insertCell().textContent = text));
  const swatch = Object.assign(document.createElement("span"), { className: "swatch" });
  swatch.style.background = `rgb(${colour})`;
  line.cells[0].prepend(swatch);
  const bar = Object.assign(document.createElement("div"), { className: "bar" });
  const part = bar.appendChild(document.createElement("div"));
  part.style.width = percent(counts[id]);
  part.hidden = !counts[id];
  line.cells[3].append(bar);
  return line;
}

function fade() {
  const share = at("opacity").value / 100;
  at("mask").style.opacity = share;
  at("opacity").setAttribute("aria-valuetext", `${at("opacity").value} percent mask`);
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const stem = () => shown.name.replace(/\.[^.]*$/, "");

async function saveMask() {
  const colours = facts.classes.map((it) => it.colour);
  download(await writeMask(shown.label, shown.width, shown.height, colours), `${stem()}_mask.png`);
}

function saveOverlay() {
  const { width, height } = shown;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(at("image"), 0, 0);
  context.globalAlpha = at("opacity").value / 100;
  context.drawImage(at("mask"), 0, 0);
  canvas.toBlob((blob) => download(blob, `${stem()}_overlay.png`));
}

function listen() {
  at("file").addEventListener("change", () => {
    take([...at("file").files]);
    at("file").value = ""; // so that the same file can be chosen again
  });
  at("opacity").addEventListener("input", fade);
  at("save-mask").addEventListener("click", saveMask);
  at("save-overlay").addEventListener("click", saveOverlay);
  addEventListener("dragover", (event) => {
    event.preventDefault();
    at("drop").classList.add("over");
  });
  addEventListener("dragleave", () => at("drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    at("drop").classList.remove("over");
    take([...event.dataTransfer.files]);
  });
  fade();
}

async function begin() {
  listen();
  try {
    engine = await during("Loading the model ...", () => makeEngine(facts));
    say(engine.note || "Ready.");
  } catch (error) {
    console.error(error);
    say(`The model could not be loaded: ${error.message}`, true);
  }
}

begin();
