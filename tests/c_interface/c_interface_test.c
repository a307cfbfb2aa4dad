/* The C interface from C: options, errors, progress, cancellation, pixels. Argument: a checkpoint.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tamias/tamias.h"

#define CHECK(condition)                                                                      \
  do {                                                                                        \
    if (!(condition)) {                                                                       \
      fprintf(stderr, "%s:%d: failed: %s (last error: %s)\n", __FILE__, __LINE__, #condition, \
              tamias_last_error());                                                           \
      exit(1);                                                                                \
    }                                                                                         \
  } while (0)

static int CountSteps(const tamias_progress* progress, void* user_data) {
  if (progress->stage == TAMIAS_STAGE_DENOISE && progress->step > 0) ++*(int*)user_data;
  return 1;
}

static int StopAtSecondStep(const tamias_progress* progress, void* user_data) {
  (void)user_data;
  return !(progress->stage == TAMIAS_STAGE_DENOISE && progress->step == 2);
}

static tamias_options* MakeOptions(void) {
  tamias_options* options = NULL;
  CHECK(tamias_options_create(&options) == TAMIAS_OK);
  CHECK(tamias_options_set(options, "prompt", "a small blue star at the top") == TAMIAS_OK);
  CHECK(tamias_options_set(options, "width", "64") == TAMIAS_OK);
  CHECK(tamias_options_set(options, "height", "32") == TAMIAS_OK);
  CHECK(tamias_options_set(options, "steps", "3") == TAMIAS_OK);
  CHECK(tamias_options_set(options, "set", "attn.top_keys=0.5") == TAMIAS_OK);
  return options;
}

static void TestErrors(const char* folder) {
  tamias_pipeline* pipeline = NULL;
  CHECK(tamias_pipeline_load("/nowhere", &pipeline) == TAMIAS_NOT_FOUND);
  CHECK(strstr(tamias_last_error(), "/nowhere") != NULL);
  CHECK(pipeline == NULL);
  CHECK(tamias_pipeline_load(NULL, &pipeline) == TAMIAS_INVALID_ARGUMENT);
  CHECK(tamias_pipeline_load(folder, NULL) == TAMIAS_INVALID_ARGUMENT);
  CHECK(tamias_pipeline_load_variant(folder, NULL, &pipeline) == TAMIAS_INVALID_ARGUMENT);
  CHECK(tamias_pipeline_load_variant(folder, "fp16", &pipeline) == TAMIAS_NOT_FOUND);
  CHECK(strstr(tamias_last_error(), "weights of the variant 'fp16'") != NULL);
  CHECK(pipeline == NULL);
  tamias_lora lora = {"none.safetensors", 1, 0};
  CHECK(tamias_pipeline_load_loras(folder, "", NULL, 1, &pipeline) == TAMIAS_INVALID_ARGUMENT);
  CHECK(tamias_pipeline_load_loras(folder, "", &lora, 1, &pipeline) == TAMIAS_NOT_FOUND);
  CHECK(strstr(tamias_last_error(), "none.safetensors") != NULL);
  lora.transformer = 1;
  CHECK(tamias_pipeline_load_loras(folder, "", &lora, 1, &pipeline) == TAMIAS_INVALID_ARGUMENT);
  CHECK(strstr(tamias_last_error(), "no transformer_2") != NULL);
  CHECK(pipeline == NULL);
  CHECK(tamias_pipeline_load_loras(folder, "", NULL, 0, &pipeline) == TAMIAS_OK);
  tamias_pipeline_destroy(pipeline);

  tamias_options* options = MakeOptions();
  CHECK(tamias_options_set(options, "colour", "red") == TAMIAS_INVALID_ARGUMENT);
  CHECK(strstr(tamias_last_error(), "colour") != NULL);
  tamias_options_destroy(options);
  tamias_options_destroy(NULL);
  tamias_pipeline_destroy(NULL);
  tamias_result_destroy(NULL);
  CHECK(tamias_result_num_images(NULL) == 0);
}

/* Numbers are decimal and whole: nothing else is taken for one. */
static void TestNumbers(void) {
  static const char* const whole[] = {
      "width", "height", "frames", "steps", "max_sequence_length", "seed", "num_images", "threads"};
  static const char* const real[] = {"true_cfg_scale", "true_cfg_scale_2", "guidance_scale", "fps"};
  static const char* const never[] = {"",
                                      " ",
                                      "+5",
                                      " 5",
                                      "5 ",
                                      "0x10",
                                      "12x",
                                      "nan",
                                      "inf",
                                      "1,5",
                                      "five",
                                      "1e999",
                                      "99999999999999999999999"};
  static const char* const not_whole[] = {"1e3", "1.0", "2.5"};
  static const char* const not_bytes[] = {"", "-1", "1e3", "0x10", " 5", "8 ", "8XiB", "GiB"};
  tamias_options* options = MakeOptions();
  for (size_t i = 0; i < sizeof whole / sizeof *whole; ++i) {
    for (size_t k = 0; k < sizeof never / sizeof *never; ++k) {
      CHECK(tamias_options_set(options, whole[i], never[k]) == TAMIAS_INVALID_ARGUMENT);
      CHECK(strncmp(tamias_last_error(), whole[i], strlen(whole[i])) == 0);
    }
    for (size_t k = 0; k < sizeof not_whole / sizeof *not_whole; ++k) {
      CHECK(tamias_options_set(options, whole[i], not_whole[k]) == TAMIAS_INVALID_ARGUMENT);
    }
    CHECK(tamias_options_set(options, whole[i], "010") == TAMIAS_OK);
  }
  for (size_t i = 0; i < sizeof real / sizeof *real; ++i) {
    for (size_t k = 0; k < sizeof never / sizeof *never; ++k) {
      const int is_large = strlen(never[k]) > 20; /* not too large for a double */
      CHECK(is_large || tamias_options_set(options, real[i], never[k]) == TAMIAS_INVALID_ARGUMENT);
    }
    CHECK(tamias_options_set(options, real[i], "2.5") == TAMIAS_OK);
  }
  CHECK(tamias_options_set(options, "seed", "-1") == TAMIAS_INVALID_ARGUMENT);
  CHECK(tamias_options_set(options, "seed", "18446744073709551616") == TAMIAS_INVALID_ARGUMENT);
  CHECK(tamias_options_set(options, "seed", "18446744073709551615") == TAMIAS_OK);
  CHECK(tamias_options_set(options, "max_memory", "1.5GiB") == TAMIAS_OK);
  for (size_t k = 0; k < sizeof not_bytes / sizeof *not_bytes; ++k) {
    CHECK(tamias_options_set(options, "max_memory", not_bytes[k]) == TAMIAS_INVALID_ARGUMENT);
  }
  tamias_options_destroy(options);
}

/* The first bytes of a file that is then removed. */
static int BeginsWith(const char* path, const char* bytes, size_t size) {
  char found[16] = {0};
  FILE* file = fopen(path, "rb");
  if (file == NULL || size > sizeof found) return 0;
  const int is_equal = fread(found, 1, size, file) == size && memcmp(found, bytes, size) == 0;
  fclose(file);
  remove(path);
  return is_equal;
}

static void TestWrittenImages(const tamias_result* result) {
  CHECK(tamias_result_write_image(result, 0, "c-interface.jpg", 0) == TAMIAS_OK);
  CHECK(BeginsWith("c-interface.jpg", "\xFF\xD8\xFF", 3));
  CHECK(tamias_result_write_image(result, 0, "c-interface.WebP", 75) == TAMIAS_OK);
  CHECK(BeginsWith("c-interface.WebP", "RIFF", 4));
  CHECK(tamias_result_write_image(result, 0, "c-interface.png", 0) == TAMIAS_OK);
  CHECK(BeginsWith("c-interface.png", "\x89PNG", 4));
  CHECK(tamias_result_write_image(result, 0, "c-interface.gif", 0) == TAMIAS_INVALID_ARGUMENT);
  CHECK(strstr(tamias_last_error(), ".png, .jpg, .jpeg or .webp") != NULL);
  CHECK(tamias_result_write_image(result, 0, "c-interface.jpg", 101) == TAMIAS_INVALID_ARGUMENT);
  CHECK(strstr(tamias_last_error(), "quality") != NULL);
  CHECK(tamias_result_write_image(result, 1, "c-interface.jpg", 0) == TAMIAS_INVALID_ARGUMENT);
  CHECK(tamias_result_write_image(result, 0, NULL, 0) == TAMIAS_INVALID_ARGUMENT);
}

/* The picture lies in the repository of which `folder` is a model. */
static void TestImage(const tamias_pipeline* pipeline, const char* folder) {
  char path[4096];
  tamias_options* options = MakeOptions();
  CHECK(tamias_options_set(options, "image", "/nowhere.png") == TAMIAS_NOT_FOUND);
  CHECK(strstr(tamias_last_error(), "/nowhere.png") != NULL);
  snprintf(path, sizeof path, "%s/model_index.json", folder);
  CHECK(tamias_options_set(options, "image", path) == TAMIAS_INVALID_FILE);
  CHECK(strstr(tamias_last_error(), "neither PNG, JPEG nor WebP") != NULL);
  snprintf(path, sizeof path, "%s/../../docs/images/side-by-side.png", folder);
  CHECK(tamias_options_set(options, "image", path) == TAMIAS_OK);
  tamias_result* result = NULL;
  CHECK(tamias_generate(pipeline, options, NULL, NULL, &result) == TAMIAS_INVALID_ARGUMENT);
  CHECK(strstr(tamias_last_error(), "text alone") != NULL);
  tamias_options_destroy(options);
}

static void TestGeneration(const tamias_pipeline* pipeline) {
  tamias_options* options = MakeOptions();
  tamias_result* result = NULL;
  int steps = 0;
  CHECK(tamias_generate(pipeline, options, CountSteps, &steps, &result) == TAMIAS_OK);
  CHECK(steps == 3);
  CHECK(tamias_result_num_images(result) == 1);
  const uint8_t* rgb = NULL;
  int width = 0;
  int height = 0;
  CHECK(tamias_result_pixels(result, 0, &rgb, &width, &height) == TAMIAS_OK);
  CHECK(width == 64 && height == 32 && rgb != NULL);
  CHECK(tamias_result_pixels(result, 1, &rgb, &width, &height) == TAMIAS_INVALID_ARGUMENT);
  CHECK(strstr(tamias_result_report(result), "\"steps\"") != NULL);
  CHECK(strstr(tamias_result_report(result), "\"device\": \"cpu\"") != NULL);
  CHECK(tamias_result_write_png(result, 0, "/nowhere/picture.png") == TAMIAS_IO);
  TestWrittenImages(result);
  CHECK(tamias_result_num_videos(result) == 0);
  CHECK(tamias_result_num_frames(result, 0) == 0 && tamias_result_fps(result, 0) == 0);
  CHECK(tamias_result_frame(result, 0, 0, &rgb, &width, &height) == TAMIAS_INVALID_ARGUMENT);
  CHECK(strstr(tamias_last_error(), "video") != NULL);
  CHECK(tamias_result_write_video(result, 0, "film.mp4") == TAMIAS_INVALID_ARGUMENT);
  tamias_result_destroy(result);

  CHECK(tamias_generate(pipeline, options, StopAtSecondStep, NULL, &result) == TAMIAS_CANCELLED);
  CHECK(result == NULL);
  CHECK(tamias_options_set(options, "width", "63") == TAMIAS_OK);
  CHECK(tamias_generate(pipeline, options, NULL, NULL, &result) == TAMIAS_INVALID_ARGUMENT);
  CHECK(strstr(tamias_last_error(), "width") != NULL);
  CHECK(tamias_options_set(options, "width", "64") == TAMIAS_OK);
  CHECK(tamias_options_set(options, "frames", "5") == TAMIAS_OK);
  CHECK(tamias_generate(pipeline, options, NULL, NULL, &result) == TAMIAS_INVALID_ARGUMENT);
  CHECK(strstr(tamias_last_error(), "makes pictures, not films") != NULL);
  CHECK(tamias_options_set(options, "fps", "fast") == TAMIAS_INVALID_ARGUMENT);
  CHECK(tamias_options_set(options, "frames", "1") == TAMIAS_OK);
  CHECK(tamias_options_set(options, "device", "tpu") == TAMIAS_OK);
  CHECK(tamias_generate(pipeline, options, NULL, NULL, &result) == TAMIAS_INVALID_ARGUMENT);
  CHECK(strstr(tamias_last_error(), "device: expected cpu, cuda") != NULL);
  CHECK(tamias_options_set(options, "device", "cpu") == TAMIAS_OK);
  CHECK(tamias_options_set(options, "weight_dtype", "int8") == TAMIAS_OK);
  CHECK(tamias_generate(pipeline, options, NULL, NULL, &result) == TAMIAS_INVALID_ARGUMENT);
  CHECK(strstr(tamias_last_error(), "weight_dtype: expected auto or fp8_e4m3") != NULL);
  tamias_options_destroy(options);
}

typedef struct Kept {
  const tamias_pipeline* pipeline;
  const tamias_options* options;
  const char* path;
  int num_latents, num_results;
} Kept;

static int KeepLatents(const tamias_result* so_far, int image, void* user_data) {
  Kept* kept = user_data;
  const float* values = NULL;
  int64_t tokens = 0, channels = 0;
  CHECK(tamias_result_latents(so_far, image, &values, &tokens, &channels) == TAMIAS_OK);
  CHECK(values != NULL && tokens == 32 && channels == 32);
  CHECK(tamias_result_latents(so_far, image + 1, &values, &tokens, &channels) ==
        TAMIAS_INVALID_ARGUMENT);
  CHECK(tamias_result_num_images(so_far) == image);
  CHECK(tamias_write_latents(kept->pipeline, kept->options, so_far, kept->path) == TAMIAS_OK);
  ++kept->num_latents;
  return 1;
}

static int StopAfterResult(const tamias_result* so_far, int image, void* user_data) {
  CHECK(tamias_result_num_images(so_far) == image + 1);
  CHECK(strstr(tamias_result_report(so_far), "\"seconds\"") != NULL);
  ++((Kept*)user_data)->num_results;
  return 0;
}

/* A generation of two pictures that stops after the first: the latents are decoded later. */
static void TestResultsOnTheWay(const tamias_pipeline* pipeline) {
  char path[] = "/tmp/tamias-c-latents-XXXXXX";
  CHECK(mkstemp(path) >= 0);
  tamias_options* options = MakeOptions();
  Kept kept = {pipeline, options, path, 0, 0};
  tamias_result* result = NULL;
  CHECK(tamias_options_set(options, "num_images", "2") == TAMIAS_OK);
  CHECK(tamias_options_on_latents(options, KeepLatents, &kept) == TAMIAS_OK);
  CHECK(tamias_options_on_result(options, StopAfterResult, &kept) == TAMIAS_OK);
  CHECK(tamias_generate(pipeline, options, NULL, NULL, &result) == TAMIAS_CANCELLED);
  CHECK(result == NULL && kept.num_latents == 1 && kept.num_results == 1);
  CHECK(tamias_options_on_result(options, NULL, NULL) == TAMIAS_OK);
  CHECK(tamias_generate(pipeline, options, NULL, NULL, &result) == TAMIAS_OK);

  tamias_options* plain = NULL;
  CHECK(tamias_options_create(&plain) == TAMIAS_OK);
  tamias_result* decoded = NULL;
  CHECK(tamias_decode(pipeline, plain, "/nowhere", NULL, NULL, &decoded) == TAMIAS_NOT_FOUND);
  CHECK(tamias_decode(pipeline, plain, NULL, NULL, NULL, &decoded) == TAMIAS_INVALID_ARGUMENT);
  CHECK(tamias_decode(pipeline, plain, path, NULL, NULL, &decoded) == TAMIAS_OK);
  CHECK(tamias_result_num_images(decoded) == 2);
  const uint8_t *made = NULL, *again = NULL;
  int width = 0, height = 0;
  CHECK(tamias_result_pixels(result, 1, &made, &width, &height) == TAMIAS_OK);
  CHECK(tamias_result_pixels(decoded, 1, &again, &width, &height) == TAMIAS_OK);
  CHECK(memcmp(made, again, (size_t)width * height * 3) == 0);
  CHECK(tamias_options_set(plain, "width", "128") == TAMIAS_OK);
  tamias_result_destroy(decoded);
  CHECK(tamias_decode(pipeline, plain, path, NULL, NULL, &decoded) == TAMIAS_INVALID_FILE);
  CHECK(decoded == NULL && strstr(tamias_last_error(), path) != NULL);
  tamias_result_destroy(result);
  tamias_options_destroy(plain);
  tamias_options_destroy(options);
  remove(path);
}

int main(int argc, char** argv) {
  CHECK(argc == 2);
  CHECK(strlen(tamias_version()) > 0);
  TestErrors(argv[1]);
  TestNumbers();
  tamias_pipeline* pipeline = NULL;
  CHECK(tamias_pipeline_load(argv[1], &pipeline) == TAMIAS_OK);
  TestGeneration(pipeline);
  TestResultsOnTheWay(pipeline);
  TestImage(pipeline, argv[1]);
  tamias_pipeline_destroy(pipeline);
  puts("the C interface works");
  return 0;
}
