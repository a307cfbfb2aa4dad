/* The C interface: load a checkpoint, generate pictures or films, read pixels. No C++ type crosses
 * it.
 *
 * Functions that can fail return a tamias_status; the message of the last failure on this thread is
 * tamias_last_error(). Handles are opaque; each is destroyed by its own function, which takes NULL.
 * Strings are UTF-8. A pipeline may be used by several threads at once; other handles may not. */
#ifndef TAMIAS_TAMIAS_H_
#define TAMIAS_TAMIAS_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tamias_status {
  TAMIAS_OK = 0,
  TAMIAS_INVALID_ARGUMENT = 1,
  TAMIAS_INVALID_FILE = 2,
  TAMIAS_NOT_FOUND = 3,
  TAMIAS_IO = 4,
  TAMIAS_OUT_OF_MEMORY = 5,
  TAMIAS_CANCELLED = 6,
  TAMIAS_UNSUPPORTED = 7,
  TAMIAS_INTERNAL = 8,
  TAMIAS_DEVICE = 9
} tamias_status;

typedef enum tamias_stage {
  TAMIAS_STAGE_ENCODE_PROMPT = 0,
  TAMIAS_STAGE_DENOISE = 1,
  TAMIAS_STAGE_DECODE = 2
} tamias_stage;

typedef struct tamias_pipeline tamias_pipeline;
typedef struct tamias_options tamias_options;
typedef struct tamias_result tamias_result;

typedef struct tamias_progress {
  tamias_stage stage;
  int image, num_images;
  int step, num_steps;
  const char* step_kind; /* "full", "sparse", "skip" or ""; valid during the call */
  double seconds, seconds_left;
} tamias_progress;

/* Returns 0 to stop the generation (TAMIAS_CANCELLED), anything else to go on. */
typedef int (*tamias_progress_callback)(const tamias_progress* progress, void* user_data);

/* "0.1.0" */
const char* tamias_version(void);
/* One line about the last failure on the calling thread; "" when there was none. */
const char* tamias_last_error(void);

tamias_status tamias_pipeline_load(const char* folder, tamias_pipeline** pipeline);
/* The same of weights in several variants: "fp16" reads *.fp16.safetensors where a component has
 * them; TAMIAS_NOT_FOUND when none has. "" is tamias_pipeline_load. */
tamias_status tamias_pipeline_load_variant(const char* folder, const char* variant,
                                           tamias_pipeline** pipeline);
/* A LoRA's .safetensors file, what it is multiplied with (1: as it is; 0: nothing is added), and of
 * Wan 2.2's transformers the one it is for: 0 or 1; 0 of all other models. */
typedef struct tamias_lora {
  const char* file;
  double scale;
  int transformer;
} tamias_lora;
/* The same with LoRAs merged into the weights. */
tamias_status tamias_pipeline_load_loras(const char* folder, const char* variant,
                                         const tamias_lora* loras, size_t count,
                                         tamias_pipeline** pipeline);
void tamias_pipeline_destroy(tamias_pipeline* pipeline);

/* Options hold the model's defaults until set. Names are those of the command line without dashes:
 * prompt, negative_prompt, true_cfg_scale, true_cfg_scale_2, guidance_scale, width, height, frames,
 * fps, steps, seed, num_images, max_sequence_length, sparsity, max_memory, max_gpu_memory, threads,
 * device, dtype, weight_dtype; "image" with the path of a PNG, JPEG or WebP, which is read at once;
 * and "set" with a value like "attn.top_keys=0.1", which may be given more than once. Numbers are
 * decimal, without blanks; max_memory and max_gpu_memory also take a unit ("8GiB"); device is
 * "cpu", "cuda:1" or several GPUs, "cuda:0,cuda:1", which share a step's call of the transformer
 * or, with guidance, its two. Unknown names and ill-typed values are TAMIAS_INVALID_ARGUMENT; a
 * picture that cannot be read is TAMIAS_NOT_FOUND, TAMIAS_IO, TAMIAS_INVALID_FILE or
 * TAMIAS_UNSUPPORTED. */
tamias_status tamias_options_create(tamias_options** options);
tamias_status tamias_options_set(tamias_options* options, const char* name, const char* value);
void tamias_options_destroy(tamias_options* options);

/* Takes what is finished while the rest still runs, on the generating thread: of a generation of
 * many pictures each as it is done. so_far is valid during the call and not to be destroyed.
 * Returns 0 to stop (TAMIAS_CANCELLED), anything else to go on. */
typedef int (*tamias_result_callback)(const tamias_result* so_far, int image, void* user_data);
/* The final latents of a picture or film, before they are decoded: whoever writes them
 * (tamias_write_latents) can go on with tamias_decode when that fails. NULL: no callback. */
tamias_status tamias_options_on_latents(tamias_options* options, tamias_result_callback callback,
                                        void* user_data);
/* A picture or film that is done. */
tamias_status tamias_options_on_result(tamias_options* options, tamias_result_callback callback,
                                       void* user_data);

/* callback may be NULL. On success *result must be destroyed by the caller. */
tamias_status tamias_generate(const tamias_pipeline* pipeline, const tamias_options* options,
                              tamias_progress_callback callback, void* user_data,
                              tamias_result** result);
/* Decodes the latents of a file, of tamias_write_latents or packed ones of others. Of the options
 * count width, height, frames and fps (else what the file says), threads, device, max_memory and
 * on_result. */
tamias_status tamias_decode(const tamias_pipeline* pipeline, const tamias_options* options,
                            const char* latents, tamias_progress_callback callback, void* user_data,
                            tamias_result** result);
void tamias_result_destroy(tamias_result* result);

int tamias_result_num_images(const tamias_result* result);
/* Pixels of one picture: height * width * 3 bytes, rows from the top; owned by the result. */
tamias_status tamias_result_pixels(const tamias_result* result, int image, const uint8_t** rgb,
                                   int* width, int* height);
/* The report as JSON; owned by the result. */
const char* tamias_result_report(const tamias_result* result);
tamias_status tamias_result_write_png(const tamias_result* result, int image, const char* path);
/* The format by the path's extension: .png, .jpg, .jpeg or .webp. quality: 1 to 100, of JPEG and
 * WebP; 0: the default, 90. */
tamias_status tamias_result_write_image(const tamias_result* result, int image, const char* path,
                                        int quality);

/* Final latents of one picture or film, packed: tokens * channels numbers, owned by the result. */
tamias_status tamias_result_latents(const tamias_result* result, int image, const float** values,
                                    int64_t* tokens, int64_t* channels);
/* All latents of a result of that pipeline with those options as safetensors. */
tamias_status tamias_write_latents(const tamias_pipeline* pipeline, const tamias_options* options,
                                   const tamias_result* result, const char* path);

/* Models that make films give videos instead of images. fps is 0 for a video that is not there. */
int tamias_result_num_videos(const tamias_result* result);
int tamias_result_num_frames(const tamias_result* result, int video);
double tamias_result_fps(const tamias_result* result, int video);
/* Pixels of one frame, as tamias_result_pixels. */
tamias_status tamias_result_frame(const tamias_result* result, int video, int frame,
                                  const uint8_t** rgb, int* width, int* height);
/* The format by the path's extension: .mp4 or .webp. */
tamias_status tamias_result_write_video(const tamias_result* result, int video, const char* path);

#ifdef __cplusplus
}
#endif

#endif /* TAMIAS_TAMIAS_H_ */
